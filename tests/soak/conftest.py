"""Sizes come from the environment, so that the same tests can be tried on a small fleet first."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from sqlalchemy.engine import URL

from tests.fixtures.postgres import postgres_server
from tests.soak.large_fleet import LargeFleet, large_fleet

__all__ = ["postgres_server"]


@pytest.fixture(scope="session")
def fleet(postgres_server: URL) -> Iterator[LargeFleet]:
    """2,000 models on 1,000 nodes in 10 cells, unless ``ROADSTEAD_SOAK`` says otherwise (``models,nodes,cells``)."""
    models, nodes, cells = (int(number) for number in os.environ.get("ROADSTEAD_SOAK", "2000,1000,10").split(","))
    with large_fleet(models=models, nodes=nodes, cells=cells, postgres=postgres_server) as made:
        yield made
