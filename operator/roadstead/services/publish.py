"""Tells people: the status of every model and pool whose status would say something new."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from roadstead.domain.plan import FleetPlan
from roadstead.ports import Cluster, DoorError

_SIDE_BY_SIDE = 16
_TIMEOUT_SECONDS = 15.0

log = structlog.get_logger(__name__)


async def publish(plan: FleetPlan, cluster: Cluster, *, overdue: frozenset[str] = frozenset()) -> frozenset[str]:
    """Publish side by side what may be new, and what is ``overdue``: uids that an earlier call could not tell.

    Returns those that it could not tell.
    """
    limit = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def one(about: str, uid: str, writing: Callable[[], Awaitable[None]]) -> str | None:
        async with limit:
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    await writing()
            except (DoorError, TimeoutError) as error:
                log.warning("status.not_written", about=about, error=str(error) or "timeout")
                return uid
            return None

    reports = (*plan.reports, *(told for told in plan.resting if told.model.uid in overdue))
    models = (one(str(told.model.key), told.model.uid, partial(cluster.publish_status, told)) for told in reports)
    pools = (one(told.pool.name, told.pool.uid, partial(cluster.publish_pool, told)) for told in plan.pools)
    return frozenset(uid for uid in await asyncio.gather(*models, *pools) if uid is not None)
