"""Whether an engine serves a model on a node, how, and why not, judged before anything is started."""
