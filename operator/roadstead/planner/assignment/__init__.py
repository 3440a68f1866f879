"""The assignment of a whole fleet: which replicas run on which machines in which variant. Pure and deterministic."""
