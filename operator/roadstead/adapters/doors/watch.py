"""One door and what it said last.

A watch asks again as soon as it was answered (the door holds a long poll until something changes) or after a pause,
and with a growing, jittered one while the door fails. It pokes the loop when what the door says has changed, and when
the door becomes known or is no more; never for a mere repetition.

Concurrency: everything runs on one event loop; one task runs :meth:`DoorWatch.run`, anybody may read.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, NoReturn, TypeVar

import structlog

from roadstead.domain.snapshot import Known, Part, Stale, Unknown
from roadstead.ports import DoorError

log = structlog.get_logger(__name__)

FRESH: Final = timedelta(seconds=30)
"""How long an answer is good for where nothing else is said."""

S = TypeVar("S")
F = TypeVar("F")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses while a door fails, in seconds: doubling, each shortened by chance so that doors do not march in step."""

    first: float = 0.2
    most: float = 5.0

    def seconds(self, failures: int) -> float:
        return min(self.most, self.first * 2.0 ** min(failures - 1, 16)) * random.uniform(0.5, 1.0)  # noqa: S311


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorKind(Generic[S, F]):
    """How doors of one kind are asked and understood."""

    word: str
    """``agent``, for the log and for pokes."""
    ask: Callable[[str, S | None], Awaitable[S]]
    """Its answer, by url; given the answer it gave last, unless it should answer at once. Raises ``DoorError``."""
    understand: Callable[[S, F | None], F | None]
    """The answer in the domain's terms, given the last one; None while the door knows nothing yet."""
    counts: Callable[[S], bool] = lambda _: True
    """Whether an answer is a look at the world rather than a memory of it."""
    differs: Callable[[S, S], bool] = lambda old, new: old != new
    """Whether it is worth a look by the loop."""
    pause_seconds: Callable[[S | None, S], float] = lambda _old, _new: 0.0
    """From one question to the next, at least."""
    fresh: timedelta = FRESH
    """How long an answer is good for."""


class DoorWatch(Generic[S, F]):
    """Follows one door."""

    def __init__(
        self,
        kind: DoorKind[S, F],
        *,
        name: str,
        clock: Callable[[], datetime],
        poke: Callable[[str], None],
        backoff: Backoff,
    ) -> None:
        self.name = name
        self.answer: S | None = None
        self.asked = 0
        """How often the door has been asked."""
        self.answered_ask = 0
        """Which of these the last answer belongs to."""
        self._kind = kind
        self._clock = clock
        self._poke = poke
        self._backoff = backoff
        self._facts: F | None = None
        self._counted = False
        self._known_at: datetime | None = None
        self._why = "not asked yet"
        self._was_known = False

    def part(self) -> Part[F]:
        """Known if the door's last answer is fresh and what it said counts."""
        if self._facts is None or self._known_at is None:
            return Unknown(self._why)
        if self._counted and self._clock() - self._known_at <= self._kind.fresh:
            return Known(self._facts)
        return Stale(self._facts, self._known_at)

    def away(self) -> None:
        """There is no address to ask at."""
        self._why = f"{self._kind.word} {self.name} has no address"
        self._tell(news=False)

    async def run(self, url: str) -> NoReturn:
        """Ask for ever."""
        failures, answered = 0, False
        while True:
            started = asyncio.get_running_loop().time()
            self.asked += 1
            ask, previous = self.asked, self.answer
            try:
                # At a new address and after a failure without the last answer: whether the door lives is worth knowing
                # at once, although it may have nothing new to tell.
                answer = await self._kind.ask(url, previous if answered and not failures else None)
            except DoorError as error:
                failures += 1
                self._fail(error, failures=failures)
                await asyncio.sleep(self._backoff.seconds(failures))
                continue
            failures, answered = 0, True
            self._note(answer, ask=ask)
            took = asyncio.get_running_loop().time() - started
            await asyncio.sleep(max(0.0, self._kind.pause_seconds(previous, answer) - took))

    def _note(self, answer: S, *, ask: int) -> None:
        repeated = answer is self.answer
        news = not repeated and (self.answer is None or self._kind.differs(self.answer, answer))
        facts = self._facts if repeated else self._kind.understand(answer, self._facts)
        self.answer, self.answered_ask = answer, ask
        self._why = f"{self._kind.word} {self.name} answers, but knows nothing yet"
        self._counted = self._kind.counts(answer)
        self._facts = facts
        if self._counted or self._known_at is None:
            self._known_at = self._clock()
        self._tell(news=news)

    def _fail(self, error: DoorError, *, failures: int) -> None:
        if failures == 1:
            log.info("door.silent", kind=self._kind.word, name=self.name, code=error.code, message=error.message)
        self._why = error.message
        self._tell(news=False)

    def _tell(self, *, news: bool) -> None:
        known = isinstance(self.part(), Known)
        if news or known != self._was_known:
            self._poke(f"{self._kind.word} {self.name}")
        self._was_known = known
