"""Tells people: the status of every model and pool whose status would say something new.

Words move with every figure in them (progress, free memory of nodes that refuse): in a fleet that is being filled
several times a second, for every model that waits. What only says the same in other words is told every ten seconds.

Of more statuses than there is time for, the others are left to the next turn.

Statuses say what is planned and need not wait until it is done: a cell whose Ray is slow may hold a turn up for half a
minute. Only models that the turn itself learns about, or whose objects it writes to, are told of after that; and not at
all where what would be told is out of date by then: a new leader, who remembers no answer, would tell of every source
that is missing that it is being asked for, and a moment later that it is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from roadstead.domain.model import Model
from roadstead.domain.plan import ClearFinalizer, FleetPlan, ModelReport, PoolReport, Resolve, SetFinalizer
from roadstead.ports import Cluster, DoorError
from roadstead.services.side_by_side import side_by_side

_TIMEOUT_SECONDS: Final = 15.0
WORDS_SECONDS: Final = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """A report that was published, and when."""

    report: ModelReport
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What is still to be said."""

    failed: int
    """Statuses that could not be written; the next turn tries again."""
    again_after_seconds: float | None
    """Until words that were put off are due, 0 if there was no time for all statuses; None if nothing is to be said."""


async def _nothing() -> frozenset[str]:
    return frozenset()


@dataclass(slots=True)
class Publisher:
    """Publishes, and remembers what it told: a report that is still the same is not looked at again."""

    told: dict[str, Told] = field(default_factory=dict)
    """By uid."""

    async def publish(
        self,
        plan: FleetPlan,
        cluster: Cluster,
        now: datetime,
        *,
        learned: Callable[[], Awaitable[frozenset[str]]] = _nothing,
    ) -> Published:
        """Publish all statuses side by side, while the plan is carried out.

        ``learned`` returns when it has been: the sources that were answered meanwhile, or are about to be. Models that
        name one are told of by the turn that follows, which knows.
        """
        failed = 0

        async def tell(report: ModelReport) -> None:
            nonlocal failed
            if await _written(str(report.model.key), partial(cluster.publish_status, report)):
                self.told[report.model.uid] = Told(report, now)
            else:
                self.told.pop(report.model.uid, None)
                failed += 1

        async def tell_of_pool(report: PoolReport) -> None:
            nonlocal failed
            failed += not await _written(report.pool.name, partial(cluster.publish_pool, report))

        present = {report.model.uid for report in plan.reports}
        for uid in self.told.keys() - present:
            del self.told[uid]
        due = {report.model.uid: self._due_after(report, now) for report in plan.reports}
        concerned = _concerned(plan)
        at_once = [each for each in plan.reports if due[each.model.uid] == 0 and each.model.uid not in concerned]
        left = await side_by_side(plan.pools, tell_of_pool) + await side_by_side(at_once, tell)
        news = await learned()
        outdated = {report.model.uid for report in plan.reports if news and _names_any(report.model, news)}
        afterwards = [
            each for each in plan.reports if due[each.model.uid] == 0 and each.model.uid in concerned - outdated
        ]
        left += await side_by_side(afterwards, tell)
        later = min((wait for uid, wait in due.items() if wait and uid not in outdated), default=None)
        return Published(failed=failed, again_after_seconds=0.0 if left else later)

    def _due_after(self, report: ModelReport, now: datetime) -> float | None:
        """Seconds until it is to be told; None if it was."""
        told = self.told.get(report.model.uid)
        if told is None:
            return 0
        if told.report is report:
            return None
        if not _only_words_differ(told.report, report):
            return 0
        return max(0.0, WORDS_SECONDS - (now - told.at).total_seconds())


async def _written(about: str, writing: Callable[[], Awaitable[None]]) -> bool:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            await writing()
    except (DoorError, TimeoutError) as error:
        log.warning("status.not_written", about=about, error=str(error) or "timeout")
        return False
    return True


def _concerned(plan: FleetPlan) -> frozenset[str]:
    """Uids of the models that the plan asks about, or whose objects it writes to."""
    asked = frozenset(action.key.source for action in plan.actions if isinstance(action, Resolve))
    written = (action.model.uid for action in plan.actions if isinstance(action, SetFinalizer | ClearFinalizer))
    naming = (report.model.uid for report in plan.reports if asked and _names_any(report.model, asked))
    return frozenset((*written, *naming))


def _names_any(model: Model, sources: frozenset[str]) -> bool:
    return model.spec is not None and any(variant.source in sources for variant in model.spec.variants)


def _only_words_differ(old: ModelReport, new: ModelReport) -> bool:
    """No where nothing differs: then the object did, and its status may have been overwritten."""
    return _without_words(old) == _without_words(new) and (old.variants, old.slots, old.conditions) != (
        new.variants,
        new.slots,
        new.conditions,
    )


def _without_words(report: ModelReport) -> object:
    """What is told at once when it changes: everything but messages and measured memory."""
    return (
        report.model.generation,
        report.release,
        report.previous,
        report.replicas,
        report.ready,
        report.status,
        [(row.name, row.quality, row.bytes, row.chosen, row.verdict.reason) for row in report.variants],
        [(row.name, row.releases, row.replicas, row.ready, row.weight, row.state) for row in report.slots],
        [(row.type, row.status, row.reason) for row in report.conditions],
    )
