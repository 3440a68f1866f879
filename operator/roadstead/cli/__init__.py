"""The command roadstead: what a person types. Speaks to a fleet through its API."""
