"""From a head agent's words to slots. Pure.

A slot is read from what was put for it, echoed by Ray. An application that is not one of ours, or that an other version
wrote in a way this one cannot read, is no slot here, and is carried over untouched. While Ray tears an application down
its configuration is gone already: then what it was before is remembered, or, after a restart of the operator, read
from its name.

When an attempt failed is told by this operator's own clock, and counted anew by the next operator: Ray's time of a
deployment moves with every configuration that is put, whatever it changes, and comes from another machine's clock.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roadstead.domain.model import ModelKey
from roadstead.domain.reasons import Reason
from roadstead.domain.snapshot import CellFacts, ObservedSlot, Raylet
from roadstead.ports import DoorError
from roadstead_worker.contract import SLOT_DEPLOYMENT, ApplicationState, CellState, SlotArgs, SlotUserConfig

_PARTS_OF_A_NAME: Final = 4
_FAILED: Final = "DEPLOY_FAILED"
_RECOVERING: Final = "RECOVERING"
"""Ray's word for a replica that a new controller found running and has not reached yet."""


class _Deployment(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str = Field(pattern=f"^{SLOT_DEPLOYMENT}$")
    num_replicas: int
    user_config: SlotUserConfig


class _Application(BaseModel):
    model_config = ConfigDict(extra="ignore")

    args: SlotArgs
    deployments: tuple[_Deployment]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldApplication:
    """An application as its head agent told of it."""

    name: str
    status: str
    message: str
    addresses: tuple[str, ...]
    recovering: int
    slot: ObservedSlot | None
    """What its configuration says; None if it is none of ours, or being torn down."""
    packed_config: bytes
    """JSON. A cell has hundreds, word for word the same for months: as objects they would take ten times the memory."""

    @property
    def config(self) -> dict[str, Any]:
        """As it was put; empty while Ray tears it down."""
        unpacked: dict[str, Any] = json.loads(self.packed_config)
        return unpacked

    @classmethod
    def of(cls, state: ApplicationState) -> Self:
        packed = json.dumps(state.config, separators=(",", ":")).encode()
        return cls(
            name=state.name,
            status=state.status,
            message=state.message,
            addresses=state.addresses,
            recovering=sum(replica.state == _RECOVERING for replica in state.replicas),
            slot=_put_for(state.name, packed),
            packed_config=packed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldCell:
    """What is kept of a head agent's answer."""

    digest: str
    epoch: int
    base: str
    reachable: bool
    nodes: frozenset[str]
    raylets: frozenset[Raylet]
    applications: tuple[ToldApplication, ...]

    @classmethod
    def of(cls, state: CellState, known: Self | None = None) -> Self:
        """``known`` is what was kept of the answer before. ``DoorError`` if the answer is about another one."""
        told = {application.name: ToldApplication.of(application) for application in state.applications}
        if state.since:
            if known is None or known.digest != state.since:
                raise DoorError(Reason.CELL_UNAVAILABLE, "told what changed since a state that nobody here knows")
            if known.digest == state.digest:
                return known
            gone = frozenset(state.gone)
            told = {each.name: each for each in known.applications if each.name not in gone} | told
            told = dict(sorted(told.items()))
        return cls(
            digest=state.digest,
            epoch=state.epoch,
            base=state.base,
            reachable=state.reachable,
            nodes=frozenset(state.nodes),
            raylets=frozenset(Raylet(node=worker.node, image=worker.image) for worker in state.workers),
            applications=tuple(told.values()),
        )


def cell_facts(told: ToldCell, previous: CellFacts | None, *, now: datetime) -> CellFacts | None:
    """What the planner may know of a cell; None as long as its head agent has not seen Ray."""
    if not told.base:
        return None
    before = {slot.name: slot for slot in previous.slots} if previous else {}
    slots = (_observed_slot(application, before.get(application.name), now=now) for application in told.applications)
    return CellFacts(
        epoch=told.epoch,
        base=told.base,
        nodes=told.nodes,
        slots=tuple(slot for slot in slots if slot is not None),
        raylets=told.raylets,
    )


def _put_for(name: str, packed_config: bytes) -> ObservedSlot | None:
    """What a configuration says of its slot."""
    try:
        read = _Application.model_validate_json(packed_config)
    except ValidationError:
        return None
    namespace, slash, model = read.args.model.partition("/")
    if not slash:
        return None
    (deployment,) = read.deployments
    return ObservedSlot(
        name=name,
        model=ModelKey(namespace, model),
        variant=read.args.variant,
        release=deployment.user_config.release,
        content=read.args.content,
        node=read.args.node,
        threads=read.args.threads,
        replicas=deployment.num_replicas,
        memory_bytes=deployment.user_config.memory_bytes,
        attempt=read.args.attempt,
        status="",
        message="",
        failed_at=None,
        addresses=(),
        engine_image=read.args.engine_image,
        devices=read.args.devices,
        device_bytes=deployment.user_config.device_bytes,
        groups=deployment.user_config.device_groups,
    )


def _observed_slot(application: ToldApplication, before: ObservedSlot | None, *, now: datetime) -> ObservedSlot | None:
    if application.slot is not None:
        failed_at = _failed_at(application.status, application.slot.attempt, before, now=now)
        return _as_told(application.slot, application, failed_at=failed_at)
    if application.config:
        return None
    departing = before or _named(application.name)
    return replace(_as_told(departing, application, failed_at=None), configured=False) if departing else None


def _as_told(slot: ObservedSlot, application: ToldApplication, *, failed_at: datetime | None) -> ObservedSlot:
    return replace(
        slot,
        status=application.status,
        message=application.message,
        failed_at=failed_at,
        addresses=application.addresses,
        recovering=application.recovering,
    )


def _failed_at(status: str, attempt: int, before: ObservedSlot | None, *, now: datetime) -> datetime | None:
    if status != _FAILED:
        return None
    known = before.failed_at if before is not None and before.attempt == attempt else None
    return known or now


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
    )
