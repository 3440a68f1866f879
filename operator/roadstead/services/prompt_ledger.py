"""A ledger that answers a turn promptly or not at all.

A Postgres that is slow, locked or silent takes up to twelve seconds to fail, and a turn of the loop waits for nobody
that long: repair, routing and scaling need no ledger. What is not done within ``PATIENCE_SECONDS`` goes on by itself,
and the turn is told that it is not known whether it was done. A later turn that asks for the same gets the answer of
that work, or begins it anew if it failed. While anything is late nobody waits for anything here, however much there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import structlog

from roadstead.domain.measured import Shown
from roadstead.domain.model import Model, ModelKey
from roadstead.domain.plan import World
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Content, contents_digest
from roadstead.domain.snapshot import LedgerFacts, Part
from roadstead.ports import DoorError, Ledger

PATIENCE_SECONDS: Final = 2.0
"""A transaction takes some milliseconds; this is for a machine that is very busy."""
_WORLD: Final = "the world"
_SHOWN: Final = "what was measured"

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Numbering:
    """What a release is numbered for."""

    model: ModelKey
    contents: str


class PromptLedger:
    """The port ``Ledger`` before another one. Use as an async context: it owns what is still under way."""

    def __init__(
        self, ledger: Ledger, *, poke: Callable[[str], None], patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._ledger = ledger
        self._poke = poke
        self._patience_seconds = patience_seconds
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}
        self._late: set[Hashable] = set()
        self._written: dict[Hashable, object] = {}
        """Of the world and of what was measured, the one that was begun last."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def facts(self) -> Part[LedgerFacts]:
        """What the other one knows."""
        return self._ledger.facts()

    async def number_release(self, model: Model, contents: tuple[Content, ...], *, above: int = 0) -> int:
        """The number, if it is known in time."""
        key = _Numbering(model.key, contents_digest(contents))
        self._forget_answers_nobody_fetched(key)
        return await self._promptly(key, lambda: self._ledger.number_release(model, contents, above=above))

    def _forget_answers_nobody_fetched(self, key: _Numbering) -> None:
        """The model asks for other contents by now."""
        for other, task in list(self._under_way.items()):
            if isinstance(other, _Numbering) and other.model == key.model and other != key and task.done():
                del self._under_way[other]

    async def reconcile(self, world: World) -> None:
        """One at a time."""
        await self._in_order(_WORLD, world, self._ledger.reconcile)

    async def remember(self, shown: Shown) -> None:
        """One at a time."""
        await self._in_order(_SHOWN, shown, self._ledger.remember)

    async def _in_order(self, key: Hashable, state: T, write: Callable[[T], Awaitable[None]]) -> None:
        """An earlier state is written to its end before this one."""
        if key in self._under_way and self._written[key] != state:
            await self._promptly(key, lambda: write(state))
        self._written[key] = state
        await self._promptly(key, lambda: write(state))

    async def _promptly(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.ensure_future(work())
        if not task.done():
            await asyncio.wait({task}, timeout=0.0 if self._late else self._patience_seconds)
        if not task.done():
            self._is_late(key, task)
            raise DoorError(
                Reason.LEDGER_UNAVAILABLE,
                f"Postgres has not answered within {self._patience_seconds:g} s; it is given more, and turns go on",
            )
        self._under_way.pop(key, None)
        result: T = task.result()
        return result

    def _is_late(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        if key not in self._late:
            self._late.add(key)
            task.add_done_callback(lambda done: self._at_last(key, done))

    def _at_last(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        self._late.discard(key)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._poke("ledger was late")
            return
        self._under_way.pop(key, None)
        log.info("ledger.late", message=str(error))
