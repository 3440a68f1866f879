"""A cell whose head is killed and comes back elsewhere, with its volume: what serves goes on, and control returns."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from roadstead_worker.contract import REPLICA_HEADER, ApplicationState, ConfigAccepted
from tests.contract.ray.test_slots_on_a_real_ray import TWO, answers, serving, slot
from tests.fixtures.head_door import HeadDoor
from tests.fixtures.ray_cell import RayCell

pytestmark = [pytest.mark.contract, pytest.mark.engines]


class SteadyClient:
    """Asks replicas at their own addresses, again and again, until ``close``."""

    def __init__(self, cell: RayCell, slots: dict[str, ApplicationState]) -> None:
        self._secret = cell.secret("replica")
        self._slots = slots
        self._task = asyncio.create_task(self._ask())
        self.answered = 0
        self.failed = 0

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _ask(self) -> None:
        async with aiohttp.ClientSession(headers={REPLICA_HEADER: self._secret}) as session:
            while True:
                for each in self._slots.values():
                    if await answers(session, each):
                        self.answered += 1
                    else:
                        self.failed += 1
                await asyncio.sleep(0.1)


@pytest.fixture
async def door(ray_cell: RayCell) -> AsyncIterator[HeadDoor]:
    async with HeadDoor(ray_cell.door, ray_cell.secret("door"), epoch=9) as opened:
        yield opened


async def until_reachable(cell: RayCell, door: HeadDoor, *, reachable: bool, within_seconds: float) -> None:
    async with asyncio.timeout(within_seconds):
        state = await door.state()
        while state.reachable is not reachable:
            cell.revive()
            state = await door.state(state.digest)


async def test_replicas_serve_without_a_head_and_are_the_same_under_one_with_another_address(
    door: HeadDoor, ray_cell: RayCell
) -> None:
    assert isinstance(await door.put(TWO), ConfigAccepted)
    before = await door.until(lambda seen: serving(seen, "alpha", "beta"), within_seconds=90, what="both slots serve")
    workers = (await door.state()).workers
    engines = ray_cell.engines("alpha") | ray_cell.engines("beta")
    client = SteadyClient(ray_cell, before)
    try:
        ray_cell.service.point()
        ray_cell.kill("head")
        await until_reachable(ray_cell, door, reachable=False, within_seconds=60)
        ray_cell.start_head(f"{ray_cell.prefix}.11")
        await until_reachable(ray_cell, door, reachable=True, within_seconds=300)
        after = await door.until(
            lambda seen: serving(seen, "alpha", "beta") and all(each.status == "RUNNING" for each in seen.values()),
            within_seconds=60,
            what="Ray tells of both slots again",
        )
        assert {name: each.replicas for name, each in after.items()} == {
            name: each.replicas for name, each in before.items()
        }
        assert isinstance(await door.put([*TWO, slot("gamma", "node-b")]), ConfigAccepted)
        await door.until(lambda seen: serving(seen, "gamma"), within_seconds=90, what="a slot put after that serves")
    finally:
        await client.close()
    assert ray_cell.engines("alpha") | ray_cell.engines("beta") == engines
    assert (await door.state()).workers == workers
    assert client.answered > 20
    assert client.failed == 0
    assert isinstance(await door.put([]), ConfigAccepted)
    await door.until(lambda seen: not seen, within_seconds=60, what="no application is left")
