"""The gateways' internal doors: the port ``Gateways``."""
