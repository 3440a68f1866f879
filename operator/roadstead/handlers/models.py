"""LocalModels: each event is handed on."""

from __future__ import annotations

import kopf

from roadstead.handlers.delivery import Deliver


def watch_models(registry: kopf.OperatorRegistry, deliver: Deliver) -> None:
    """Have every event of every LocalModel delivered."""

    @kopf.on.event("roadstead.dev", "v1alpha1", "localmodels", registry=registry)
    async def model_seen(event: kopf.RawEvent, **_: object) -> None:
        deliver(event["type"], dict(event["object"]))
