"""Alembic environment and versions of the ledger. Found by name, never imported by the operator."""
