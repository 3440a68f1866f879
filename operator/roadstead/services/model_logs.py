"""The engines' own lines of one model, wherever it runs, as one stream.

Read from the agents of the nodes that hold its slots; ``follow`` looks for new slots every two seconds and drops those
that have left, so a stream goes on while a model moves. Lines are ``<node> <slot>.<index> <text>``; a line that begins
with ``# `` is about the reading itself (an agent that does not answer), not from an engine.

Bounded: at most ``LOGS_LIMIT`` logs at a time, and a few lines of each wait for a slow reader, which then slows the
agents. Whoever closes the stream ends everything that it began.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from roadstead.domain.engine_log import EngineLog
from roadstead.domain.model import ModelKey
from roadstead.domain.snapshot import ObservedSlot, latest
from roadstead.ports import Agents, Cells, DoorError, EngineLogs

LOGS_LIMIT: Final = 64
_LOOK_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 2.0
_WAITING_LINES: Final = 256
_LINES_OF_A_NEW_SLOT: Final = 1_000
_SIDE_BY_SIDE: Final = 16
_LIST_SECONDS: Final = 10.0
_NOT_THERE: Final = "LogNotFound"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which lines of a model somebody wants to read."""

    model: ModelKey
    lines: int
    """How many of the last lines of each log."""
    follow: bool
    previous: bool = False
    """Also of slots that are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLogs:
    """Streams for as many readers as there are; itself without memory."""

    agents: Agents
    cells: Cells
    logs: EngineLogs

    async def any_of(self, model: ModelKey) -> bool:
        """Whether there is a slot of the model, or a log of one that is gone."""
        return bool(self._of_slots(model) or await self._listed(model, []))

    async def lines(self, wanted: Wanted) -> AsyncGenerator[str, None]:
        """The lines; close it when no more of them are wanted."""
        reading = _Reading(logs=self.logs, wanted=wanted)
        current = self._of_slots(wanted.model)
        earlier = await self._listed(wanted.model, reading.notes) if wanted.previous or not current else []
        # Who follows a log reads its last lines on the same way: between two readings a line could be lost.
        followed = set(current) if wanted.follow else set()
        chosen = [log for log in dict.fromkeys((*earlier, *current)) if log not in followed]
        for log in chosen[:LOGS_LIMIT]:
            async with aclosing(reading.last_lines(log)) as lines:
                async for line in lines:
                    yield line
        if len(chosen) > LOGS_LIMIT:
            yield f"# {len(chosen) - LOGS_LIMIT} more logs are not shown"
        for note in reading.notes:
            yield note
        if wanted.follow:
            async with aclosing(self._followed(wanted, reading)) as lines:
                async for line in lines:
                    yield line

    async def _followed(self, wanted: Wanted, reading: _Reading) -> AsyncGenerator[str, None]:
        """The lines of the slots that there are, and of those that come."""
        queue: asyncio.Queue[str] = asyncio.Queue(maxsize=_WAITING_LINES)
        looking = asyncio.create_task(self._look(wanted, reading, queue), name=f"logs of {wanted.model}")
        try:
            while True:
                getting = asyncio.ensure_future(queue.get())
                try:
                    await asyncio.wait((getting, looking), return_when=asyncio.FIRST_COMPLETED)
                    if not getting.done():
                        looking.result()  # it ends only by a defect: tell it
                        return
                    yield getting.result()
                finally:
                    getting.cancel()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look(self, wanted: Wanted, reading: _Reading, queue: asyncio.Queue[str]) -> None:
        """Keep one follower for each log of a slot that is there."""
        followers: dict[EngineLog, asyncio.Task[None]] = {}
        missed: set[EngineLog] = set()
        lines = wanted.lines
        try:
            while True:
                there = self._of_slots(wanted.model)[:LOGS_LIMIT]
                for log in there:
                    if log not in followers:
                        followers[log] = asyncio.create_task(
                            reading.follow(log, queue, lines=lines), name=f"log {log.label}"
                        )
                # A slot that is missing once may only be between two answers of its cell.
                gone = [log for log in followers if log not in there]
                for log in gone:
                    if log in missed:
                        followers.pop(log).cancel()
                missed, lines = set(gone), _LINES_OF_A_NEW_SLOT
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for task in followers.values():
                task.cancel()
            await asyncio.gather(*followers.values(), return_exceptions=True)

    def _slots(self, model: ModelKey) -> list[ObservedSlot]:
        told = [facts for cell in self.cells.cells() if (facts := latest(cell.facts)) is not None]
        return [slot for facts in told for slot in facts.slots if slot.model == model]

    def _of_slots(self, model: ModelKey) -> list[EngineLog]:
        return sorted(
            (
                EngineLog(node=slot.node, slot=slot.name, index=index)
                for slot in self._slots(model)
                for index in range(slot.replicas)
            ),
            key=lambda log: (log.node, log.slot, log.index),
        )

    async def _listed(self, model: ModelKey, notes: list[str]) -> list[EngineLog]:
        """The logs that nodes still have of this model, the current slots' among them."""
        limit = asyncio.Semaphore(_SIDE_BY_SIDE)
        current = {slot.name for slot in self._slots(model)}

        async def of(node: str) -> list[EngineLog]:
            try:
                async with limit, asyncio.timeout(_LIST_SECONDS):
                    listed = await self.logs.listed(node)
            except (DoorError, TimeoutError) as error:
                notes.append(f"# {node}: {str(error) or 'no answer'}")
                return []
            return [
                EngineLog(node=log.node, slot=log.slot, index=log.index)
                for log in listed
                if log.slot in current or belongs(log.slot, model)
            ]

        found = await asyncio.gather(*(of(node) for node in sorted(self.agents.facts())))
        return [log for logs in found for log in logs]


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One reader's way through the logs."""

    logs: EngineLogs
    wanted: Wanted
    notes: list[str] = field(default_factory=list)

    async def last_lines(self, log: EngineLog) -> AsyncGenerator[str, None]:
        try:
            async with aclosing(self.logs.lines(log, lines=self.wanted.lines, follow=False)) as lines:
                async for line in lines:
                    yield f"{log.label} {line}"
        except DoorError as error:
            if error.code != _NOT_THERE:
                self.notes.append(f"# {log.label}: {error}")

    async def follow(self, log: EngineLog, queue: asyncio.Queue[str], *, lines: int) -> None:
        """The last lines and new ones for ever; an agent that goes away is said once and tried again."""
        said = False
        while True:
            try:
                async with aclosing(self.logs.lines(log, lines=lines, follow=True)) as told:
                    async for line in told:
                        said, lines = False, 0
                        await queue.put(f"{log.label} {line}")
            except DoorError as error:
                if not said:
                    await queue.put(f"# {log.label}: {error}")
                said = True
            await asyncio.sleep(_RETRY_SECONDS)


def belongs(slot: str, model: ModelKey) -> bool:
    """Whether a slot's name says that it is this model's; one that was shortened does not say it."""
    return re.match(rf"{re.escape(model.namespace)}\.{re.escape(model.name)}\.[0-9a-f]{{8}}\.", slot) is not None
