"""The loop: wait, take a turn, remember when. An error in a turn is logged and the next turn tries again.

Only the leader runs it. Told to stop, it lets the turn that is under way end, and what is in flight: no action is cut
in the middle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from roadstead.runtime.metrics import OperatorMetrics
from roadstead.runtime.trigger import Trigger
from roadstead.services.turn import Turn

_AFTER_ERROR_SECONDS = 5.0
_REASONS_TOLD = 8

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class FleetLoop:
    """Takes turns for as long as this process leads."""

    turn: Turn
    trigger: Trigger
    metrics: OperatorMetrics
    synced: Callable[[], bool]
    """Whether every list of the API server has been read once."""
    fenced: Callable[[int], Awaitable[None]]
    """Told when a door has seen a higher epoch than ours."""
    began: float | None = None
    """Loop time at which this process began to lead."""
    ended: bool = False
    """Whether the last turn is over."""
    stopping: bool = False
    """Set by :meth:`stop`."""
    last_turn: float | None = None
    """Loop time of the end of the last turn that did not fail."""

    async def run(self) -> None:
        """Take turns until told to stop or cancelled."""
        again: float | None = 0.0
        self.began = asyncio.get_running_loop().time()
        try:
            await self._turns(again)
            await self.turn.executor.landed()
        finally:
            self.turn.executor.abandon()
            self.ended = True

    async def _turns(self, again: float | None) -> None:
        while True:
            reasons = await self.trigger.wait(at_most=again)
            if self.stopping:
                return
            if not self.synced():
                again = 0.2
                continue
            again = await self._one(reasons)

    def stop(self) -> None:
        """End after the turn that is under way."""
        self.stopping = True
        self.trigger.poke("stop")

    async def _one(self, reasons: frozenset[str]) -> float | None:
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            result = await self.turn.run()
        except Exception:
            self.metrics.turns.labels("error").inc()
            log.exception("turn.failed", reasons=_some(reasons))
            return _AFTER_ERROR_SECONDS
        self.last_turn = clock()
        self.metrics.turns.labels("failed_actions" if result.outcome.failed else "done").inc()
        self.metrics.turn_seconds.observe(self.last_turn - started)
        self.metrics.models.set(result.models)
        if result.assignment_gap is not None:
            self.metrics.assignment_gap.set(result.assignment_gap)
        if result.outcome.fenced_by is not None:
            await self.fenced(result.outcome.fenced_by)
        if result.outcome.done or result.outcome.failed:
            log.info(
                "turn",
                reasons=_some(reasons),
                done=result.outcome.done,
                left=result.outcome.left,
                failed=result.outcome.failed,
                seconds=round(self.last_turn - started, 3),
            )
        return result.again_after_seconds


def _some(reasons: frozenset[str]) -> list[str]:
    """As many as a log line has room for."""
    told = sorted(reasons)
    more = len(told) - _REASONS_TOLD
    return told if more <= 0 else [*told[:_REASONS_TOLD], f"and {more} more"]
