"""Tells people: the status of every model and pool whose status would say something new."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from roadstead.domain.plan import FleetPlan, ModelReport
from roadstead.ports import Cluster, DoorError

_SIDE_BY_SIDE = 16
_TIMEOUT_SECONDS = 15.0

log = structlog.get_logger(__name__)


async def publish(plan: FleetPlan, cluster: Cluster, told: dict[str, ModelReport]) -> int:
    """Publish all statuses side by side; the number that could not be written (the next turn tries again).

    ``told`` is the caller's memory, by uid: a report that is still the one that was published is not looked at again.
    """
    limit = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def one(about: str, writing: Callable[[], Awaitable[None]]) -> bool:
        async with limit:
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    await writing()
            except (DoorError, TimeoutError) as error:
                log.warning("status.not_written", about=about, error=str(error) or "timeout")
                return False
            return True

    async def model(report: ModelReport) -> bool:
        written = await one(str(report.model.key), partial(cluster.publish_status, report))
        if written:
            told[report.model.uid] = report
        return written

    new = [report for report in plan.reports if told.get(report.model.uid) is not report]
    present = {report.model.uid for report in plan.reports}
    for uid in (told.keys() - present) | {report.model.uid for report in new}:
        told.pop(uid, None)
    models = (model(report) for report in new)
    pools = (one(report.pool.name, partial(cluster.publish_pool, report)) for report in plan.pools)
    return sum(not written for written in await asyncio.gather(*models, *pools))
