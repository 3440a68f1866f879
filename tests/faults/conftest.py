"""A real API server and a real Postgres for all of it; a namespace, a ledger and an operator for each test.

``FAULTS_THIRD`` picks a third of the tests: 0, 1 or 2, or ``auto``, another one each day. Without it all are run.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from roadstead_migrations import runner
from tests.faults.rig.scene import Scene, raised
from tests.fixtures.control_plane import RunningControlPlane, control_plane
from tests.fixtures.embedded_fleet import fleet
from tests.fixtures.postgres import empty_database, postgres_server

__all__ = ["control_plane", "empty_database", "fleet", "postgres_server"]

_COUNTER = itertools.count(1)
_HERE = Path(__file__).parent
_THIRDS = 3


def third(asked: str, *, day: int) -> int | None:
    """Which third is run; None: all of them. Raises ``pytest.UsageError``."""
    if asked == "auto":
        return day % _THIRDS
    if asked not in ("", *map(str, range(_THIRDS))):
        raise pytest.UsageError(f"FAULTS_THIRD is {asked!r}: it may be 0, 1, 2 or auto, or not set at all")
    return int(asked) if asked else None


def _chosen() -> int | None:
    return third(os.environ.get("FAULTS_THIRD", ""), day=datetime.now(UTC).toordinal())


def pytest_report_header() -> str:
    chosen = _chosen()
    return "faults: all of them" if chosen is None else f"faults: third {chosen} of 0, 1 and 2 (FAULTS_THIRD)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every third one of each kind, so that the thirds take about equally long."""
    chosen = _chosen()
    if chosen is None:
        return
    of_ours = [item for item in items if item.path.is_relative_to(_HERE)]
    left_out = [item for number, item in enumerate(of_ours) if number % _THIRDS != chosen]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


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
