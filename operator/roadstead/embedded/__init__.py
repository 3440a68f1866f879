"""A whole fleet on one machine: real API server, real Postgres, real Ray, one supervisor.

This package finds or builds what a fleet needs, starts it on loopback ports, keeps it running and takes it down
again. It decides nothing about models: the operator, the agents, the gateway and the replicas run as the same
commands that a cluster runs, told where things are by environment variables (see `fleet`).
"""
