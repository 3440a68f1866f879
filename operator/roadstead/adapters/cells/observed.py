"""From a head agent's words to slots. Pure.

A slot is read from what was put for it, echoed by Ray. An application that is not one of ours, or that an other version
wrote in a way this one cannot read, is no slot here, and is carried over untouched. While Ray tears an application down
its configuration is gone already: then what it was before is remembered, or, after a restart of the operator, read
from its name.

When an attempt failed is told by this operator's own clock, and counted anew by the next operator: Ray's time of a
deployment moves with every configuration that is put, whatever it changes, and comes from another machine's clock.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roadstead.domain.model import ModelKey
from roadstead.domain.snapshot import CellFacts, ObservedSlot, Raylet
from roadstead_worker.contract import SLOT_DEPLOYMENT, ApplicationState, CellState, SlotArgs, SlotUserConfig

_PARTS_OF_A_NAME: Final = 4
_FAILED: Final = "DEPLOY_FAILED"


class _Deployment(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str = Field(pattern=f"^{SLOT_DEPLOYMENT}$")
    num_replicas: int
    user_config: SlotUserConfig


class _Application(BaseModel):
    model_config = ConfigDict(extra="ignore")

    args: SlotArgs
    deployments: tuple[_Deployment]


def cell_facts(state: CellState, previous: CellFacts | None, *, now: datetime) -> CellFacts | None:
    """What the planner may know of a cell; None as long as its head agent has not seen Ray."""
    if not state.base:
        return None
    before = {slot.name: slot for slot in previous.slots} if previous else {}
    slots = (observed_slot(application, before.get(application.name), now=now) for application in state.applications)
    return CellFacts(
        epoch=state.epoch,
        base=state.base,
        nodes=frozenset(state.nodes),
        slots=tuple(slot for slot in slots if slot is not None),
        raylets=frozenset(Raylet(node=worker.node, image=worker.image) for worker in state.workers),
    )


def observed_slot(application: ApplicationState, before: ObservedSlot | None, *, now: datetime) -> ObservedSlot | None:
    """The slot, or None if this application is none."""
    if not application.config:
        return _departing(application, before)
    try:
        read = _Application.model_validate(application.config)
    except ValidationError:
        return None
    namespace, slash, name = read.args.model.partition("/")
    if not slash:
        return None
    (deployment,) = read.deployments
    return ObservedSlot(
        name=application.name,
        model=ModelKey(namespace, name),
        variant=read.args.variant,
        release=deployment.user_config.release,
        content=read.args.content,
        node=read.args.node,
        threads=read.args.threads,
        replicas=deployment.num_replicas,
        memory_bytes=deployment.user_config.memory_bytes,
        attempt=read.args.attempt,
        status=application.status,
        message=application.message,
        failed_at=_failed_at(application.status, read.args.attempt, before, now=now),
        addresses=application.addresses,
        live_replicas=len(application.replicas),
        engine_image=read.args.engine_image,
    )


def _departing(application: ApplicationState, before: ObservedSlot | None) -> ObservedSlot | None:
    slot = before or _named(application.name)
    if slot is None:
        return None
    return replace(
        slot,
        status=application.status,
        message=application.message,
        addresses=application.addresses,
        live_replicas=len(application.replicas),
        configured=False,
    )


def _named(name: str) -> ObservedSlot | None:
    """As much as ``<namespace>.<model>.<content8>.<node>`` tells; one cut to fit tells less of the node."""
    parts = name.split(".", _PARTS_OF_A_NAME - 1)
    if len(parts) < _PARTS_OF_A_NAME:
        return None
    namespace, model, _, node = parts
    return ObservedSlot(
        name=name,
        model=ModelKey(namespace, model),
        variant="",
        release=0,
        content="",
        node=node,
        threads=0,
        replicas=0,
        memory_bytes=0,
        attempt=0,
        status="",
        message="",
        failed_at=None,
        addresses=(),
        live_replicas=0,
    )


def _failed_at(status: str, attempt: int, before: ObservedSlot | None, *, now: datetime) -> datetime | None:
    if status != _FAILED:
        return None
    known = before.failed_at if before is not None and before.attempt == attempt else None
    return known or now
