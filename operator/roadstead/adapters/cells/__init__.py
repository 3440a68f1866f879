"""The Ray clusters behind their head agents: the port ``Cells``."""
