"""What this process sees and would do: the picture and the plan that the read API tells.

The leader tells its last turn. A standby turns no loop; it looks and plans when it is asked, and again when that is
older than a few seconds, so that an idle standby costs nothing. It asks agents what is behind a source, as a leader
does (a question that changes nothing), because a plan without answers would only say that they are missing. It never
carries out anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from roadstead.domain.inventory import Inventory
from roadstead.domain.plan import FleetPlan, Resolve
from roadstead.domain.snapshot import Cell, FleetSnapshot, Unknown, latest
from roadstead.planner.inventory.merge import inventory_of
from roadstead.planner.membership import with_members
from roadstead.planner.nodes import pool_of
from roadstead.ports import DoorError
from roadstead.services.observe import Ports, observe
from roadstead.services.resolutions import ResolutionBook

GOOD_FOR: Final = timedelta(seconds=5)
"""How long a plan that was made for a question answers the next ones."""
_ROUNDS: Final = 3
_QUESTIONS: Final = 64
_SIDE_BY_SIDE: Final = 16
_QUESTION_SECONDS: Final = 10.0

Planner = Callable[[FleetSnapshot, datetime], Awaitable[FleetPlan]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A picture of the fleet, and the plan that was made from it."""

    snapshot: FleetSnapshot
    plan: FleetPlan
    at: datetime

    def pools(self) -> Mapping[str, str]:
        """Name of the pool of every node that belongs to one."""
        found = {name: pool_of(node, self.snapshot.pools) for name, node in self.snapshot.nodes.items()}
        return {name: pool.name for name, pool in found.items() if pool is not None}

    def inventories(self) -> Mapping[str, Inventory]:
        """What each node has, by all that tells of it."""
        snapshot = self.snapshot
        return {
            name: inventory_of(
                node,
                slices=snapshot.device_slices.get(name, ()),
                agent=latest(snapshot.agents.get(name, Unknown("no agent is known on this node"))),
            )
            for name, node in snapshot.nodes.items()
        }

    def cells(self) -> tuple[Cell, ...]:
        """Every cell that is named anywhere, each with all of its nodes."""
        return with_members(self.snapshot).cells


class Outlook:
    """Where turns leave what they planned, and where questions find it."""

    def __init__(
        self,
        *,
        ports: Ports,
        planner: Planner,
        resolutions: ResolutionBook,
        clock: Callable[[], datetime],
        leading: Callable[[], bool],
    ) -> None:
        self._ports = ports
        self._planner = planner
        self._resolutions = resolutions
        self._clock = clock
        self._leading = leading
        self._of_turn: Planned | None = None
        self._of_question: Planned | None = None
        self._planning = asyncio.Lock()

    @property
    def leading(self) -> bool:
        """Whether this process acts on what it plans."""
        return self._leading()

    def now(self) -> datetime:
        return self._clock()

    def note(self, planned: Planned) -> None:
        """A turn of the loop has planned this."""
        self._of_turn = planned

    def snapshot(self) -> FleetSnapshot:
        """What is known at this moment. ``DoorError`` ``NotSynced`` before the API server's lists have been read."""
        if not self._ports.cluster.synced:
            raise DoorError("NotSynced", "this operator has not read the API server's lists yet")
        return observe(self._ports, self._resolutions)

    async def latest(self) -> Planned:
        """The last plan. ``DoorError``: ``NotSynced``, or ``PlanUnavailable`` if planning failed."""
        if self._of_turn is not None and self.leading:
            return self._of_turn
        async with self._planning:
            known = self._of_question
            if known is None or self._clock() - known.at > GOOD_FOR:
                known = self._of_question = await self._plan()
            return known

    async def _plan(self) -> Planned:
        planned = await self._once()
        for _ in range(_ROUNDS - 1):
            questions = [action for action in planned.plan.actions if isinstance(action, Resolve)]
            if not questions or not await self._ask(questions[:_QUESTIONS]):
                break
            planned = await self._once()
        return planned

    async def _once(self) -> Planned:
        snapshot, now = self.snapshot(), self._clock()
        try:
            plan = await self._planner(snapshot, now)
        except (TimeoutError, BrokenExecutor) as error:
            raise unavailable(error) from error
        return Planned(snapshot=snapshot, plan=plan, at=now)

    async def _ask(self, questions: list[Resolve]) -> bool:
        """Whether an answer came that says something new."""
        limit = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def one(question: Resolve) -> bool:
            try:
                async with limit, asyncio.timeout(_QUESTION_SECONDS):
                    answer = await self._ports.agents.resolve(question.key)
            except TimeoutError:
                return False
            return self._resolutions.record(question.key, answer)

        return any(await asyncio.gather(*(one(question) for question in questions)))


def unavailable(error: BaseException) -> DoorError:
    """No plan, because the planner took too long or died."""
    return DoorError("PlanUnavailable", f"planning failed: {str(error) or type(error).__name__}")
