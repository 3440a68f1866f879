"""Carries plans out. It decides nothing: an action that fails is logged and left to the next turn, which sees why.

Actions of one kind that follow each other run side by side, because they touch different things; kinds keep their
order. Each has a timeout, so that one door that hangs costs nobody else anything. Of a kind with more actions than it
has time for, the others are left to the next turn.

Agents and cells may be slow: one that hangs is given up after eight seconds, and Ray answers in half a minute while it
builds many applications. No turn waits so long. What is not over within ``PATIENCE_SECONDS`` goes on in flight, and
turns leave alone what it touches until it has landed. They lose nothing by that: to a plan, what is in flight is what
was not done yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import structlog

from roadstead.domain.plan import Action, ConfigureCell, FetchWeights, ForgetWeights, Resolve
from roadstead.domain.snapshot import ResolutionKey
from roadstead.ports import DoorError, FencedError
from roadstead.services.observe import Ports
from roadstead.services.perform import perform
from roadstead.services.resolutions import ResolutionBook
from roadstead.services.side_by_side import side_by_side

PATIENCE_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 2.0
"""Until what failed is tried again, if nothing else starts a turn before."""
_TIMEOUT_SECONDS: Final = 30.0
_OVERTAKEN: Final = frozenset({"BaseChanged", "Conflict"})
"""Codes of writes on what has changed since it was planned on: no fault of anybody, the next turn plans on what is."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a plan's actions went."""

    done: int
    failed: int
    news: bool
    """Whether an answer came in that the next turn should look at."""
    left: int = 0
    """Actions that were not begun, for want of time."""
    fenced_by: int | None = None
    """The higher epoch a door has seen."""


@dataclass(frozen=True, slots=True)
class _Result:
    """How one action went."""

    word: str
    """For the metrics."""
    news: bool = False
    epoch: int | None = None

    @property
    def failed(self) -> bool:
        return self.word != "done"


@dataclass(slots=True, eq=False)
class _Flight:
    """An action that no turn waits for any more, or will in a moment."""

    task: asyncio.Task[_Result]
    awaited: bool
    """Whether something that turns left alone, or left untold, becomes possible when it lands."""
    late: bool = False
    """Whether the turn that began it has gone on without its result."""


class Executor:
    """Carries out one plan after the other, and owns what is in flight.

    ``count(action, result)`` is told of each action for the metrics; ``poke`` asks for a turn.
    """

    def __init__(
        self,
        *,
        ports: Ports,
        resolutions: ResolutionBook,
        count: Callable[[str, str], None] = lambda _action, _result: None,
        poke: Callable[[str], None] = lambda _reason: None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._ports = ports
        self._resolutions = resolutions
        self._count = count
        self._poke = poke
        self._patience_seconds = patience_seconds
        self._in_flight: dict[Hashable, _Flight] = {}
        self._fenced_by: int | None = None
        """Told by what landed between turns."""

    async def carry_out(self, actions: tuple[Action, ...]) -> Outcome:
        """Carry out actions in order, but for those that would touch what is in flight."""
        results: list[_Result] = []
        left = 0

        async def one(action: Action) -> None:
            touched = _slow_to_change(action)
            result = await (self._attempt(action) if touched is None else self._promptly(touched, action))
            if result is not None:
                results.append(result)

        for _, group in groupby(actions, key=type):
            left += await side_by_side(tuple(group), one)
        epochs = [result.epoch for result in results if result.epoch is not None]
        if self._fenced_by is not None:
            epochs.append(self._fenced_by)
            self._fenced_by = None
        failed = sum(result.failed for result in results)
        return Outcome(
            done=len(results) - failed,
            failed=failed,
            news=any(result.news for result in results),
            left=left,
            fenced_by=max(epochs, default=None),
        )

    def asking(self) -> frozenset[str]:
        """Sources about which a first question is in flight: of the others there is something to tell meanwhile."""
        return frozenset(
            touched.source
            for touched in self._in_flight
            if isinstance(touched, ResolutionKey) and not self._resolutions.knows(touched)
        )

    async def landed(self) -> None:
        """Wait until nothing is in flight any more."""
        while self._in_flight:
            await asyncio.wait({flight.task for flight in self._in_flight.values()})
            await asyncio.sleep(0)  # those that were told of it take them off the list

    def abandon(self) -> None:
        """Cancel what is in flight."""
        for flight in self._in_flight.values():
            flight.task.cancel()

    async def _promptly(self, touched: Hashable, action: Action) -> _Result | None:
        """How it went, if that is known in time."""
        flying = self._in_flight.get(touched)
        if flying is not None:
            flying.awaited = True
            return None
        # The status of a model waits for the first answer to a question about it.
        asking = isinstance(action, Resolve) and not self._resolutions.knows(action.key)
        flight = _Flight(asyncio.create_task(self._attempt(action)), awaited=asking)
        self._in_flight[touched] = flight
        # From the beginning: a turn that another action's defect ends must not leave this in flight for ever.
        flight.task.add_done_callback(lambda _: self._land(touched, flight))
        try:
            await asyncio.wait({flight.task}, timeout=self._patience_seconds)
        finally:
            flight.late = not flight.task.done()
        return None if flight.late else flight.task.result()

    def _land(self, touched: Hashable, flight: _Flight) -> None:
        del self._in_flight[touched]
        if not flight.late or flight.task.cancelled():
            return
        error = flight.task.exception()
        if error is not None:
            log.error("action.broke", touched=str(touched), exc_info=error)
        result = _Result("broke") if error is not None else flight.task.result()
        if result.epoch is not None:
            self._fenced_by = max(result.epoch, self._fenced_by or 0)
            self._poke("fenced")
        elif result.failed:
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._poke, "failed late")
        elif result.news or flight.awaited:
            self._poke("done late")

    async def _attempt(self, action: Action) -> _Result:
        result = await self._tried(action)
        self._count(type(action).__name__, result.word)
        return result

    async def _tried(self, action: Action) -> _Result:
        name = type(action).__name__
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                news = await perform(action, ports=self._ports, resolutions=self._resolutions)
        except FencedError as error:
            log.warning("action.fenced", action=name, epoch=error.epoch)
            return _Result("fenced", epoch=error.epoch)
        except DoorError as error:
            word, tell = ("overtaken", log.info) if error.code in _OVERTAKEN else ("failed", log.warning)
            tell(f"action.{word}", action=name, code=error.code, message=error.message)
            return _Result(word)
        except TimeoutError:
            log.warning("action.timeout", action=name, seconds=_TIMEOUT_SECONDS)
            return _Result("timeout")
        return _Result("done", news=news)


def _slow_to_change(action: Action) -> Hashable | None:
    """What an action touches, if that is behind the door of an agent or a cell."""
    match action:
        case Resolve(key=key):
            return key
        case FetchWeights(node=node, artifact=artifact):
            return ("weights", node, artifact.digest)
        case ForgetWeights(node=node, digest=digest):
            return ("weights", node, digest)
        case ConfigureCell(cell=cell):
            return ("cell", cell)
        case _:
            return None
