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


async def publish(plan: FleetPlan, cluster: Cluster) -> int:
    """Publish all statuses side by side; the number that could not be written (the next turn tries again)."""
    limit = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def one(about: str, writing: Callable[[], Awaitable[None]]) -> int:
        async with limit:
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    await writing()
            except (DoorError, TimeoutError) as error:
                log.warning("status.not_written", about=about, error=str(error) or "timeout")
                return 1
            return 0

    models = (one(str(told.model.key), partial(cluster.publish_status, told)) for told in plan.reports)
    pools = (one(told.pool.name, partial(cluster.publish_pool, told)) for told in plan.pools)
    return sum(await asyncio.gather(*models, *pools))
