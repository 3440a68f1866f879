"""What hardware a node has, from all that tells of it: its agent, DRA drivers, labels. Pure."""
