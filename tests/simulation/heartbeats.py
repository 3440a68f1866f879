"""Kubelets' signs of life for simulated Nodes: a Lease every 10 s, and the Node's status as often as asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NoReturn

import structlog

from roadstead.adapters.kube.api import Api
from roadstead.ports import DoorError
from tests.simulation.objects import Written, apply_one, node_lease, node_status

log = structlog.get_logger(__name__)

LEASE_SECONDS: Final = 10.0
STATUS_SECONDS: Final = 300.0
"""A kubelet's own figure. With 10 it is harsher than any: every status wakes each watch of Nodes."""
_SIDE_BY_SIDE: Final = 8


@dataclass(slots=True, kw_only=True)
class Heartbeats:
    """Spread evenly over their period, so that the API server is asked as steadily as by real machines."""

    api: Api
    alive: Callable[[str], bool]
    lease_seconds: float = LEASE_SECONDS
    status_seconds: float = STATUS_SECONDS
    written: int = 0
    failed: int = 0
    _waiting: asyncio.Queue[Written] = field(default_factory=lambda: asyncio.Queue(maxsize=4 * _SIDE_BY_SIDE))

    @asynccontextmanager
    async def beating(self, nodes: Iterable[str]) -> AsyncIterator[None]:
        """For as long as the block lasts."""
        task = asyncio.create_task(self.run(nodes), name="heartbeats")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def run(self, nodes: Iterable[str]) -> None:
        """Until cancelled."""
        names = list(nodes)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat(names, node_lease, self.lease_seconds))
            group.create_task(self._beat(names, node_status, self.status_seconds))
            for _ in range(_SIDE_BY_SIDE):
                group.create_task(self._write())

    async def _beat(self, names: list[str], what: Callable[[str], Written], period: float) -> NoReturn:
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            for name in names:
                due = max(due + period / len(names), clock() - period)  # what was missed for long is not made up for
                await asyncio.sleep(due - clock())
                if self.alive(name):
                    await self._waiting.put(what(name))

    async def _write(self) -> NoReturn:
        while True:
            each = await self._waiting.get()
            try:
                await apply_one(self.api, each)
                self.written += 1
            except DoorError as error:
                self.failed += 1
                log.warning("heartbeat.lost", path=each.path, code=error.code, message=error.message)
