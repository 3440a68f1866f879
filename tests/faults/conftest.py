"""A real API server and a real Postgres for all of it; a namespace, a ledger and an operator for each test."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from roadstead_migrations import runner
from tests.faults.rig.scene import Scene, raised
from tests.fixtures.control_plane import RunningControlPlane, control_plane
from tests.fixtures.postgres import empty_database, postgres_server

__all__ = ["control_plane", "empty_database", "postgres_server"]

_COUNTER = itertools.count(1)


@pytest.fixture(scope="session")
def plane(control_plane: RunningControlPlane) -> RunningControlPlane:
    """The API server after our definitions were accepted."""
    control_plane.define_our_kinds()
    return control_plane


@pytest.fixture
def database(empty_database: URL) -> URL:
    """A ledger with nothing in it."""
    runner.upgrade(empty_database)
    return empty_database


@pytest.fixture
def namespace() -> str:
    return f"fault-{next(_COUNTER)}"


@pytest.fixture
async def resting(plane: RunningControlPlane, database: URL, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    """Everything is up, and the operator is not started yet."""
    async with raised(kubeconfig=plane.kubeconfig, database=database, namespace=namespace, folder=tmp_path) as scene:
        yield scene


@pytest.fixture
async def scene(resting: Scene) -> Scene:
    """An operator that leads, and a model of two replicas that serves."""
    await resting.operator.start()
    await resting.model().create()
    await resting.until(resting.model().serves(2), "the model serves", seconds=30)
    return resting
