"""Real Postgres for the ledger's contract: an empty database, or one that is migrated."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import URL

from roadstead_migrations import runner
from tests.fixtures.postgres import empty_database, postgres_server

__all__ = ["empty_database", "postgres_server"]


@pytest.fixture
def database(empty_database: URL) -> URL:
    runner.upgrade(empty_database)
    return empty_database
