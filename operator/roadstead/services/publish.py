"""Tells people: the status of every model whose status would say something new."""

from __future__ import annotations

import asyncio

import structlog

from roadstead.domain.plan import ModelReport
from roadstead.ports import Cluster, DoorError

_SIDE_BY_SIDE = 16
_TIMEOUT_SECONDS = 15.0

log = structlog.get_logger(__name__)


async def publish(reports: tuple[ModelReport, ...], cluster: Cluster) -> int:
    """Publish all statuses side by side; the number that could not be written (the next turn tries again)."""
    limit = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def one(report: ModelReport) -> int:
        async with limit:
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    await cluster.publish_status(report)
            except (DoorError, TimeoutError) as error:
                log.warning("status.not_written", model=str(report.model.key), error=str(error) or "timeout")
                return 1
            return 0

    return sum(await asyncio.gather(*(one(report) for report in reports)))
