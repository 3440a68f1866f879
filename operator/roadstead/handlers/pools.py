"""WorkerPools: each event is handed on."""

from __future__ import annotations

import kopf

from roadstead.handlers.delivery import Deliver


def watch_pools(registry: kopf.OperatorRegistry, deliver: Deliver) -> None:
    """Have every event of every WorkerPool delivered."""

    @kopf.on.event("roadstead.dev", "v1alpha1", "workerpools", registry=registry)
    async def pool_seen(event: kopf.RawEvent, **_: object) -> None:
        deliver(event["type"], dict(event["object"]))
