"""One turn of the loop: observe → plan → act, publish and record. The only place where the order is written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import structlog

from roadstead.domain.snapshot import FleetSnapshot, Known
from roadstead.ports import DoorError
from roadstead.services.act import RETRY_SECONDS, Executor, Outcome
from roadstead.services.observe import Ports, observe, shown_by, world_of
from roadstead.services.outlook import Planned, Planner
from roadstead.services.publish import Publisher
from roadstead.services.resolutions import ResolutionBook

_LEDGER_TIMEOUT_SECONDS = 10.0
_NAMED = 10
"""Models that one line of the log names."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnResult:
    """What a turn did, for the loop and the metrics."""

    models: int
    outcome: Outcome
    unpublished: int
    again_after_seconds: float | None
    """When to look again although nothing happens; 0 = at once."""
    assignment_gap: float | None = None
    """Of the plan; None where nothing had to be weighed up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Everything one turn needs; itself without memory but for agents' answers, what is in flight and what was told."""

    ports: Ports
    planner: Planner
    resolutions: ResolutionBook
    clock: Callable[[], datetime]
    executor: Executor
    note: Callable[[Planned], None] = lambda _planned: None
    """Told what was planned before any of it is done."""
    publisher: Publisher = field(default_factory=Publisher)

    async def run(self) -> TurnResult:
        """One way through, once."""
        snapshot = observe(self.ports, self.resolutions)
        now = self.clock()
        plan = await self.planner(snapshot, now)
        self.note(Planned(snapshot=snapshot, plan=plan, at=now))
        if plan.held:
            log.warning("orphans.held", models=[str(key) for key in plan.held[:_NAMED]], number=len(plan.held))
        async with asyncio.TaskGroup() as tasks:
            acting = tasks.create_task(self.executor.carry_out(plan.actions))
            learned = partial(self._learned, acting, snapshot)
            telling = tasks.create_task(self.publisher.publish(plan, self.ports.cluster, now, learned=learned))
            tasks.create_task(self._record(snapshot))
        outcome, published = acting.result(), telling.result()
        if outcome.left:
            again: float | None = 0.0
        elif outcome.failed or published.failed:
            again = RETRY_SECONDS
        elif outcome.news:
            again = 0.0
        else:
            waits = (plan.wake_after_seconds, published.again_after_seconds)
            again = min((wait for wait in waits if wait is not None), default=None)
        return TurnResult(
            models=len(snapshot.models),
            outcome=outcome,
            unpublished=published.failed,
            again_after_seconds=again,
            assignment_gap=plan.assignment_gap,
        )

    async def _learned(self, acting: asyncio.Task[Outcome], snapshot: FleetSnapshot) -> frozenset[str]:
        """Sources that were answered while the plan was made and carried out, or are about to be."""
        await acting
        return self.resolutions.settled_since(snapshot.resolutions) | self.executor.asking()

    async def _record(self, snapshot: FleetSnapshot) -> None:
        """The ledger is history: it is brought up to date after the fact and never holds anything up for long."""
        if not isinstance(snapshot.ledger, Known):
            return
        try:
            async with asyncio.timeout(_LEDGER_TIMEOUT_SECONDS):
                await self.ports.ledger.reconcile(world_of(snapshot))
                await self.ports.ledger.remember(shown_by(snapshot))
        except DoorError as error:
            log.info("ledger.behind", code=error.code, message=error.message)
        except TimeoutError:
            log.info("ledger.behind", code="Timeout", message=f"no answer in {_LEDGER_TIMEOUT_SECONDS:.0f} s")
