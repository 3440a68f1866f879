"""Roadstead's control plane: observes a fleet, plans it, acts on it, publishes what came of it."""
