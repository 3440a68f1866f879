"""A read API in front of a settled fleet with one model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fixtures.memory_fleet import MemoryFleet
from tests.fixtures.read_api import VARIANTS, MemoryLogs, ReadApi, running_read_api, two_nodes


@pytest.fixture
async def fleet() -> MemoryFleet:
    fleet = two_nodes()
    fleet.apply("assistant", *VARIANTS, replicas=2)
    await fleet.settle()
    return fleet


@pytest.fixture
async def logs() -> MemoryLogs:
    return MemoryLogs()


@pytest.fixture
async def api(fleet: MemoryFleet, logs: MemoryLogs, tmp_path: Path) -> AsyncIterator[ReadApi]:
    async with running_read_api(tmp_path, fleet=fleet, logs=logs) as api:
        yield api
