"""The operator process: settings, leadership, trigger, loop, health."""
