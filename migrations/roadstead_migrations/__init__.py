"""Alembic environment and versions of the ledger. Found by name, never imported by the operator.

``python -m roadstead_migrations upgrade|downgrade|current|check`` with ``ROADSTEAD_DATABASE_URL``.
"""
