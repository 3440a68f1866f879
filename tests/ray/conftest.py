"""One cell for all tests here; Ray's workers find ``tests.ray.plain`` in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.fixtures.ray_cell import RayCell, running_cell
from tests.ray.serve_hand import ServeHand


@pytest.fixture(scope="session")
def cell() -> Iterator[RayCell]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        with running_cell() as running:
            yield running


@pytest.fixture
async def serve(cell: RayCell) -> AsyncIterator[ServeHand]:
    async with ServeHand(cell) as hand:
        yield hand


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where replicas write what happens to them."""
    return tmp_path / "journal"
