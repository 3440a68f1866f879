"""The way through: observe, act, publish, releases. Speaks to the world through the ports."""
