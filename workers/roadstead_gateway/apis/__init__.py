"""The faces of the gateway: what clients call, and what the operator and Prometheus call."""
