"""What is put into a cell: slots as Serve applications, everything else word for word. Pure.

Ray replaces a configuration as a whole and restarts the replicas of an application whose ``args`` or actor options
changed by a letter. So an application that exists is never rendered anew: its echo is kept, and only what a slot may
change in its life is set in it. A later version of this file renders differently without restarting anything.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from roadstead.domain.slot import Slot, route_prefix
from roadstead_worker.contract import (
    IMAGE_LABEL,
    NODE_LABEL,
    SLOT_DEPLOYMENT,
    SLOT_IMPORT_PATH,
    SlotArgs,
    SlotUserConfig,
    image_label,
)

GRACEFUL_SHUTDOWN_SECONDS: Final = 600
"""The longest generation that may finish. Ray ends a replica as soon as nothing is under way, so this delays no
removal; what is left after it is cut, and the client would see a clean end."""
_ONGOING_MARGIN: Final = 2
"""Requests above the engine's concurrency that a replica takes: whoever asks for its health is not turned away."""
_QUEUE_PER_SEQUENCE: Final = 4
"""Several gateways may each fill a replica; beyond this queue it answers 503 and they try another."""
_HEALTH_PERIOD_SECONDS: Final = 5
_HEALTH_TIMEOUT_SECONDS: Final = 10


class Configured(Protocol):
    """An application of a cell; without a configuration while Ray tears it down."""

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> dict[str, Any]: ...


def composed(
    applications: Iterable[Configured], *, put: Sequence[Slot], remove: Iterable[str]
) -> tuple[dict[str, Any], ...]:
    """The full list to put: a slot in ``put`` is there afterwards even if ``remove`` names it too.

    Applications without a configuration are being torn down: they are out already, and put again they start anew.
    """
    gone = set(remove)
    wanted = {slot.name: slot for slot in put}
    result: list[dict[str, Any]] = []
    for application in applications:
        config = application.config
        if not config:
            continue
        slot = wanted.pop(application.name, None)
        if slot is not None:
            result.append(changed(config, slot))
        elif application.name not in gone:
            result.append(config)
    return (*result, *(rendered(slot) for slot in wanted.values()))


def rendered(slot: Slot) -> dict[str, Any]:
    """A new application for the slot."""
    concurrency = slot.content.concurrency
    return {
        "name": slot.name,
        "route_prefix": route_prefix(slot.name),
        "import_path": SLOT_IMPORT_PATH,
        "args": _args(slot).model_dump(mode="json"),
        "deployments": [
            {
                "name": SLOT_DEPLOYMENT,
                "num_replicas": slot.replicas,
                "max_ongoing_requests": concurrency + _ONGOING_MARGIN,
                "max_queued_requests": concurrency * _QUEUE_PER_SEQUENCE,
                "graceful_shutdown_timeout_s": GRACEFUL_SHUTDOWN_SECONDS,
                "health_check_period_s": _HEALTH_PERIOD_SECONDS,
                "health_check_timeout_s": _HEALTH_TIMEOUT_SECONDS,
                # A second copy beside the first would have no memory to start in: its lease is not planned for.
                "max_surge_percent": 0,
                "ray_actor_options": {"num_cpus": 0, "label_selector": _workers_of(slot)},
                "user_config": _user_config(slot),
            }
        ],
    }


def _workers_of(slot: Slot) -> dict[str, str]:
    """Labels of the workers that may run it: of its node and, where workers are Pods, from its engine's image."""
    image = image_label(slot.content.engine_image)
    return {NODE_LABEL: slot.node, **({IMAGE_LABEL: image} if image else {})}


def changed(config: Mapping[str, Any], slot: Slot) -> dict[str, Any]:
    """An application that exists, with the slot's replicas, user config and attempt; else word for word as it is."""
    result: dict[str, Any] = copy.deepcopy(dict(config))
    deployments = result.get("deployments")
    args = result.get("args")
    if not isinstance(deployments, list) or not isinstance(args, dict):
        return rendered(slot)
    for deployment in deployments:
        if isinstance(deployment, dict) and deployment.get("name") == SLOT_DEPLOYMENT:
            deployment["num_replicas"] = slot.replicas
            deployment["user_config"] = _user_config(slot)
    if args.get("attempt", 0) != slot.attempt:
        args["attempt"] = slot.attempt
    return result


def _args(slot: Slot) -> SlotArgs:
    content = slot.content
    return SlotArgs(
        slot=slot.name,
        model=str(slot.model),
        variant=content.variant,
        node=slot.node,
        content=content.hash,
        artifact=content.artifact.digest,
        engine=content.engine,
        engine_image=content.engine_image,
        engine_args=content.engine_args,
        served_name=content.served_name,
        context_tokens=content.context_tokens,
        concurrency=content.concurrency,
        task=content.task,
        threads=slot.shape.threads,
        attempt=slot.attempt,
        devices=slot.shape.devices,
    )


def _user_config(slot: Slot) -> dict[str, Any]:
    return SlotUserConfig(
        release=slot.release,
        memory_bytes=slot.memory_bytes,
        groups=slot.replicas,
        device_bytes=slot.device_bytes,
        device_groups=slot.groups,
    ).model_dump(mode="json")
