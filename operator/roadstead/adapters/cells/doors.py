"""Head agents behind their doors: cells are followed, and written to by compare-and-swap.

A write names the base that was planned on. It is sent only while the cell is Known and still tells this base, and only
once per base: after a write has been accepted, another one waits for the state that followed it, so that what was just
put is never carried over as it was before.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from roadstead.adapters.cells.observed import ToldCell, cell_facts
from roadstead.adapters.cells.serve_config import composed
from roadstead.adapters.directory import CellDoor, Directory
from roadstead.adapters.doors.caller import DoorCaller, TokenFile
from roadstead.adapters.doors.following import FollowedDoors
from roadstead.adapters.doors.long_poll import long_poll, pause_before_next
from roadstead.adapters.doors.watch import Backoff, DoorKind, DoorWatch
from roadstead.domain.reasons import Reason
from roadstead.domain.slot import Slot
from roadstead.domain.snapshot import Cell, CellFacts, Known
from roadstead.ports import DoorError
from roadstead_worker.contract import LONG_POLL_SECONDS, CellState, ConfigAccepted, ConfigRequest

_CONFIGURE_SECONDS: Final = 25.0
"""Ray's REST API is slow while many applications are being built."""
_BASE_CHANGED: Final = "BaseChanged"


class CellDoors:
    """Answers to the port ``Cells``. Use as an async context."""

    def __init__(
        self,
        *,
        directory: Directory,
        token_file: Path,
        epoch: Callable[[], int],
        clock: Callable[[], datetime],
        poke: Callable[[str], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._caller = DoorCaller(token=TokenFile(token_file), epoch=epoch, unavailable=Reason.CELL_UNAVAILABLE)
        kind: DoorKind[ToldCell, CellFacts] = DoorKind(
            word="cell",
            ask=long_poll(self._caller, CellState, keep=ToldCell.of, kept=ToldCell, wait_seconds=LONG_POLL_SECONDS),
            understand=lambda state, previous: cell_facts(state, previous, now=clock()),
            counts=lambda state: state.reachable,
            differs=lambda old, new: old.digest != new.digest,
            pause_seconds=pause_before_next,
        )
        self._doors = FollowedDoors[CellDoor, ToldCell, CellFacts](
            lambda: directory.listing().cells,
            lambda name: DoorWatch(kind, name=name, clock=clock, poke=poke, backoff=backoff or Backoff()),
            poke=poke,
        )
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._spent: dict[str, tuple[str, int]] = {}
        """By cell: the base that was written over, and how often the door had been asked by then."""
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._caller)
        await self._stack.enter_async_context(self._doors)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def cells(self) -> tuple[Cell, ...]:
        """Every cell that the directory lists, by name; Known only while its head agent reaches Ray."""
        return tuple(
            Cell(name=name, nodes=door.nodes, facts=watch.part()) for name, (door, watch) in self._doors.all().items()
        )

    def highest_epoch(self) -> int:
        """The highest that any of these doors has told."""
        told = (watch.answer.epoch for _, watch in self._doors.all().values() if watch.answer is not None)
        return max((*told, self._caller.highest_epoch))

    async def configure(self, cell: str, *, base: str, put: tuple[Slot, ...], remove: tuple[str, ...]) -> None:
        """Put and remove slots; every other application is carried over word for word.

        Raises ``DoorError`` (``BaseChanged`` if the cell is not, or no longer, as it was planned on).
        """
        async with self._turns[cell]:
            door, watch = self._found(cell)
            state = self._state(cell, watch)
            if state.base != base or self._is_spent(cell, base, watch):
                raise DoorError(_BASE_CHANGED, f"cell {cell} is no longer as it was planned on")
            wanted = ConfigRequest(base=base, applications=composed(state.applications, put=put, remove=remove))
            reply = await self._caller.put(f"{door.url}/config", wanted, seconds=_CONFIGURE_SECONDS)
            accepted = self._caller.parsed(reply, ConfigAccepted)
            if accepted.base != base:
                self._spent[cell] = (base, watch.asked)

    def _found(self, cell: str) -> tuple[CellDoor, DoorWatch[ToldCell, CellFacts]]:
        found = self._doors.get(cell)
        if found is None:
            raise DoorError(Reason.CELL_UNAVAILABLE, f"no head agent is listed for cell {cell}")
        if not found[0].url:
            raise DoorError(Reason.CELL_UNAVAILABLE, f"the head agent of cell {cell} has no address at the moment")
        return found

    def _state(self, cell: str, watch: DoorWatch[ToldCell, CellFacts]) -> ToldCell:
        if watch.answer is None or not isinstance(watch.part(), Known):
            raise DoorError(
                Reason.CELL_UNAVAILABLE, f"what cell {cell} holds is not known now: nothing is written to it"
            )
        return watch.answer

    def _is_spent(self, cell: str, base: str, watch: DoorWatch[ToldCell, CellFacts]) -> bool:
        """Whether the state still is the one that was written over: no answer was asked for since."""
        spent = self._spent.get(cell)
        return spent is not None and spent[0] == base and watch.answered_ask <= spent[1]
