"""Tells the node agent what a lease's engine really holds, from its first start to its last end.

Only the replica can: in a cluster the agent lives in another Pod and does not see the engine's processes. It is told
when the figure has moved, so a steady engine causes neither requests nor writes; the agent keeps it beside the grant.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from roadstead_worker.contract import LeaseMemory
from roadstead_worker.lease_file import ClaimedLease
from roadstead_worker.replica.measuring import engine_memory
from roadstead_worker.replica.memory_claim import AgentSocket, NotYet

LOOK_SECONDS: Final = 5.0
STEP_BYTES: Final = 1024 * 1024

log = structlog.get_logger(__name__)


class LeaseMemoryTelling:
    """Measures and tells until ``close``; to be made on the replica's event loop, once memory was granted."""

    def __init__(self, agent: AgentSocket, lease: ClaimedLease, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._agent = agent
        self._slot, self._index = lease.slot, lease.index
        self._look_seconds = look_seconds
        self._task = asyncio.create_task(self._run(), name=f"memory of {lease.slot}.{lease.index}")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        told = 0
        while True:
            size = await engine_memory()
            if abs(size - told) > STEP_BYTES:
                try:
                    await self._agent.report_memory(LeaseMemory(slot=self._slot, index=self._index, bytes=size))
                except NotYet as reason:
                    log.warning("memory not told", slot=self._slot, index=self._index, reason=str(reason))
                else:
                    told = size
            await asyncio.sleep(self._look_seconds)
