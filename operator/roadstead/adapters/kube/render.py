"""The domain's values into Kubernetes objects: ``status`` of a LocalModel, and ModelRoutes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

from roadstead.adapters.kube.api import Object
from roadstead.adapters.kube.localmodel import (
    SLOT_ROWS,
    LocalModelStatus,
    Printed,
    ReleaseStatus,
    SlotMemory,
    SlotStatus,
    VariantStatus,
)
from roadstead.adapters.kube.localmodel import ConditionStatus as ConditionRow
from roadstead.adapters.kube.resources import API_VERSION, LOCAL_MODEL, MODEL_ROUTE, ModelRouteSpec, RouteSlot
from roadstead.adapters.kube.revisions import MODEL_LABEL
from roadstead.domain.model import Condition, ConditionStatus, Task
from roadstead.domain.plan import ConditionReport, ModelReport, SlotReport
from roadstead.domain.slot import route_prefix, shortened
from roadstead.domain.snapshot import Address, Route

Row = TypeVar("Row", bound=ConditionRow)

_UNITS = ("", "Ki", "Mi", "Gi", "Ti")
_NOTICEABLE = 0.02
"""Share by which measured memory must move before status follows: less is noise, and each write wakes every watcher."""


def status(report: ModelReport, *, published: Object, now: datetime, url: str | None) -> Object:
    """``status`` as it should be; times and small figures of what is ``published`` stay where nothing happened.

    ``url`` is None where nobody answers any more.
    """
    spec = report.model.spec
    measured = {row.get("name"): row.get("memory", {}) for row in published.get("slots", ())}
    rows = LocalModelStatus(
        observed_generation=report.model.generation,
        served_name=spec.served_name if spec else None,
        release=(
            ReleaseStatus(number=report.release.number, digest=report.release.digest, previous=report.previous)
            if report.release
            else None
        ),
        replicas=report.replicas,
        ready_replicas=report.ready,
        selector=f"{MODEL_LABEL}={shortened(report.model.key.name)}",
        url=url,
        variants=tuple(
            VariantStatus(
                name=row.name,
                quality=row.quality,
                bytes=row.bytes,
                chosen=row.chosen,
                verdict=row.verdict.reason,
                message=row.verdict.message,
            )
            for row in report.variants
        ),
        slots=tuple(_slot(row, measured.get(row.name, {})) for row in report.slots[:SLOT_ROWS]),
        conditions=tuple(
            condition(ConditionRow, row, before=report.model.conditions, generation=report.model.generation, now=now)
            for row in report.conditions
        ),
        printed=_printed(report),
    )
    return rows.model_dump(mode="json", by_alias=True, exclude_none=True)


def same_status(wanted: Object, published: Object) -> bool:
    """Whether a write would change nothing. Conditions of other writers are theirs."""
    ours = {condition["type"] for condition in wanted.get("conditions", ())}
    theirs = [condition for condition in published.get("conditions", ()) if condition.get("type") in ours]
    return wanted == {**published, "conditions": theirs}


def local_model_status(report: ModelReport, rendered: Object, *, resource_version: str) -> Object:
    """What is applied to the status subresource; the version makes a late writer fail."""
    return {
        "apiVersion": API_VERSION,
        "kind": LOCAL_MODEL.name,
        "metadata": {
            "name": report.model.key.name,
            "namespace": report.model.key.namespace,
            "uid": report.model.uid,
            "resourceVersion": resource_version,
        },
        "status": rendered,
    }


def model_route(route: Route, *, namespace: str, resource_version: str | None) -> Object:
    """The ModelRoute as it should be."""
    spec = ModelRouteSpec(
        model=str(route.model),
        names=route.names,
        task=Task(route.task),
        slots=tuple(_route_slot(slot) for slot in route.slots),
    )
    return {
        "apiVersion": API_VERSION,
        "kind": MODEL_ROUTE.name,
        "metadata": {
            "name": route.name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "roadstead"},
            **({"resourceVersion": resource_version} if resource_version else {}),
        },
        "spec": spec.model_dump(mode="json", by_alias=True),
    }


def quantity(number_of_bytes: int) -> str:
    """``145Mi``, ``9.87Gi``: three digits, in binary units, readable by Kubernetes."""
    value, unit = float(number_of_bytes), 0
    while round(value) >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    digits = 0 if unit == 0 or value >= 100 else 1 if value >= 10 else 2
    text = f"{value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if digits else text) + _UNITS[unit]


def in_bytes(text: str) -> float:
    """The inverse of :func:`quantity`, as far as its digits go; 0 for anything else."""
    number = text.rstrip("KMGTi")
    try:
        return float(number) * float(1024 ** _UNITS.index(text[len(number) :]))
    except ValueError:
        return 0.0


def condition(
    shape: type[Row], row: ConditionReport, *, before: Iterable[Condition], generation: int, now: datetime
) -> Row:
    """A condition of any kind of object; it keeps its time unless its status flipped against ``before``."""
    known = next((each for each in before if each.type == row.type), None)
    kept = known is not None and known.status is row.status
    return shape(
        type=row.type,
        status=row.status.value,
        reason=row.reason,
        message=row.message,
        observed_generation=generation,
        last_transition_time=known.last_transition if known is not None and kept else now.replace(microsecond=0),
    )


def _slot(row: SlotReport, published: Object) -> SlotStatus:
    return SlotStatus(
        name=row.name,
        node=row.node,
        pool=row.pool,
        releases=row.releases,
        variant=row.variant,
        engine=row.engine,
        replicas=row.replicas,
        ready=row.ready,
        weight=row.weight,
        memory=SlotMemory(
            estimated=quantity(row.memory_estimated), measured=_measured(row.memory_measured, published.get("measured"))
        ),
        state=row.state,
        message=row.message,
    )


def _measured(number_of_bytes: int, published: str | None) -> str | None:
    if not number_of_bytes:
        return None
    before = in_bytes(published or "")
    if published and abs(before - number_of_bytes) <= _NOTICEABLE * number_of_bytes:
        return published
    return quantity(number_of_bytes)


def _printed(report: ModelReport) -> Printed:
    variants: dict[str, int] = {}
    nodes: dict[str, None] = {}
    for slot in report.slots:
        if slot.ready:
            variants[slot.variant] = variants.get(slot.variant, 0) + slot.ready
            nodes[slot.node] = None
    wanted = report.model.spec.replicas if report.model.spec else report.replicas
    return Printed(
        status=report.status,
        ready=f"{report.ready}/{wanted}",
        variants=", ".join(f"{name} x{count}" if count > 1 else name for name, count in sorted(variants.items())),
        nodes=", ".join(sorted(nodes)),
        message=_first_message(report),
    )


_TELLING = (
    ("Accepted", ConditionStatus.FALSE),
    ("Stalled", ConditionStatus.TRUE),
    ("Degraded", ConditionStatus.TRUE),
    ("Placed", ConditionStatus.FALSE),
    ("Resolved", ConditionStatus.FALSE),
    ("Progressing", ConditionStatus.TRUE),
)
"""In this order, the condition whose message a person should see; else that of Ready."""


def _first_message(report: ModelReport) -> str:
    said = {(row.type, row.status): row.message for row in report.conditions}
    ready = next((row.message for row in report.conditions if row.type == "Ready"), "")
    return next((said[telling] for telling in _TELLING if said.get(telling)), ready)


def _route_slot(slot: Address) -> RouteSlot:
    return RouteSlot(
        name=slot.slot,
        release=slot.release,
        variant=slot.variant,
        node=slot.node,
        route_prefix=route_prefix(slot.slot),
        addresses=slot.addresses,
        weight=slot.weight,
        capacity=slot.capacity,
        state="Draining" if slot.draining else "Active",
    )


def told_to_gateways(route: Route) -> object:
    """What of a route is published; two with the same are the same to a gateway."""
    return (route.name, route.model, route.names, route.task, route.slots)
