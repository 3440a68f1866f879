"""One gateway a module: it takes uvicorn 0.4 s to end, and its counters go with its routes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.fixtures.gateway import Client, running_gateway
from tests.fixtures.patience import until


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    async with running_gateway(tmp_path_factory.mktemp("gateway")) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(shared: Client) -> AsyncIterator[Client]:
    yield shared
    await until(lambda: not any(slot.in_flight for slot in shared.gateway.tallies().slots), "all requests ended")
    shared.forget()
