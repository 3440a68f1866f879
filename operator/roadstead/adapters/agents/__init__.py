"""The node agents: the port ``Agents``."""
