"""The doors of one operator process, opened together, and the epoch that all of them have seen at most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from roadstead.adapters.agents.doors import AgentDoors
from roadstead.adapters.cells.doors import CellDoors
from roadstead.adapters.directory import Directory
from roadstead.adapters.gateways.doors import GatewayDoors
from roadstead.domain.snapshot import Unknown

_FIRST_ANSWERS_SECONDS = 3.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Agents, cells and gateways."""

    agents: AgentDoors
    cells: CellDoors
    gateways: GatewayDoors

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        directory: Directory,
        *,
        token_file: Path,
        epoch: Callable[[], int],
        clock: Callable[[], datetime],
        poke: Callable[[str], None],
    ) -> AsyncIterator[Doors]:
        """All doors that the directory lists, followed until the block ends."""
        async with AsyncExitStack() as stack:
            yield cls(
                agents=await stack.enter_async_context(
                    AgentDoors(directory=directory, token_file=token_file, epoch=epoch, clock=clock, poke=poke)
                ),
                cells=await stack.enter_async_context(
                    CellDoors(directory=directory, token_file=token_file, epoch=epoch, clock=clock, poke=poke)
                ),
                gateways=await stack.enter_async_context(
                    GatewayDoors(directory=directory, token_file=token_file, clock=clock, poke=poke)
                ),
            )

    async def highest_epoch(self) -> int:
        """The highest epoch that the doors tell; waits a moment for the first answers of those that are up."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _FIRST_ANSWERS_SECONDS
        while loop.time() < deadline and not self._all_answered():  # noqa: ASYNC110 - doors tell no one event
            await asyncio.sleep(_LOOK_SECONDS)
        return max(self.agents.highest_epoch(), self.cells.highest_epoch())

    def _all_answered(self) -> bool:
        parts = [*self.agents.facts().values(), *(cell.facts for cell in self.cells.cells())]
        return bool(parts) and not any(isinstance(part, Unknown) for part in parts)
