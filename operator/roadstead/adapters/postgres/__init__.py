"""The ledger's adapter: what Postgres remembers of models, releases and placements."""
