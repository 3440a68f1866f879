"""Alembic's entry: runs migrations on the connection that ``runner`` has locked, one transaction a migration.

There is no offline mode: what a revision does may depend on what it finds, and a script that was applied by hand would
not hold the advisory lock.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from roadstead.adapters.postgres.schema import Ledger


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Ledger.metadata,
        transaction_per_migration=True,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


_migrate(context.config.attributes["connection"])
