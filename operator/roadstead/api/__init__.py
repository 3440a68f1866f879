"""The read API: what this operator sees, what it would do and why, and what engines say. It changes nothing."""
