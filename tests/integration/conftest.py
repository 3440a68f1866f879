"""One fleet for all tests here, and one model in it that every test may count on."""

from __future__ import annotations

import asyncio

import pytest

from tests.fixtures.embedded_fleet import EmbeddedFleet, fleet

__all__ = ["fleet"]

ANCHOR = "anchor"


@pytest.fixture(scope="session")
def anchor(fleet: EmbeddedFleet) -> str:
    """A model that serves and goes on serving whatever happens to others."""
    fleet.apply(ANCHOR, {"q4": fleet.weights.q4}, requirements={"contextTokens": 2048, "concurrency": 2})
    asyncio.run(fleet.until_model(ANCHOR, "Ready", seconds=120))
    asyncio.run(fleet.answers(ANCHOR))
    return ANCHOR
