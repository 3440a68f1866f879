"""WorkerPools into the domain and back: what a pool asks for, what its status says, which images were adopted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from pydantic import TypeAdapter, ValidationError

from roadstead.adapters.kube import workerpool
from roadstead.adapters.kube.api import Object
from roadstead.adapters.kube.parse import conditions, pairs, sentence
from roadstead.adapters.kube.pods import POOL_LABEL, labels, owned_by
from roadstead.adapters.kube.quantities import number, whole_bytes
from roadstead.adapters.kube.render import condition
from roadstead.adapters.kube.resources import API_VERSION, WORKER_POOL
from roadstead.adapters.kube.store import Unreadable
from roadstead.adapters.kube.workerpool import (
    ADOPT_ANNOTATION,
    EngineStatus,
    PoolCondition,
    PoolEngine,
    PoolPrinted,
    WorkerCount,
    WorkerPoolSpec,
    WorkerPoolStatus,
)
from roadstead.adapters.kube.workloads import Workloads
from roadstead.domain.plan import PoolReport
from roadstead.domain.snapshot import EngineBuild, Pool, image_identity
from roadstead.domain.workload import Devices, Toleration, WorkerTemplate

_OPERATOR: Final = "operator"
_ABILITIES: Final = "roadstead.dev/engines"
"""Annotation of the record: what the adopted images can do, as the WorkerPool said when it offered them."""
_ENGINES: Final = TypeAdapter(tuple[PoolEngine, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedPool:
    """A WorkerPool with what only this package needs of it."""

    pool: Pool
    status: Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """The images of a pool that were adopted, as kept in a ConfigMap."""

    pool: str
    pool_uid: str
    """Of the WorkerPool that it was kept for: a later one of that name starts anew."""
    engines: tuple[EngineBuild, ...]


def pool(obj: Object) -> WatchedPool:
    """A WorkerPool."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    try:
        # A field of a later version is passed over: for its sake the pool, and with it all its slots, must not vanish.
        spec = WorkerPoolSpec.model_validate_json(
            json.dumps(obj.get("spec")), strict=True, extra="ignore", by_alias=True, by_name=False
        )
    except ValidationError as error:
        raise Unreadable(sentence(error)) from error
    return WatchedPool(
        pool=Pool(
            name=metadata["name"],
            node_selector=pairs(spec.node_selector),
            engines=tuple(_build(build) for build in spec.engines),
            workers=_template(spec.workers) if spec.workers is not None else None,
            adopt=image_identity(metadata.get("annotations", {}).get(ADOPT_ANNOTATION, "").strip()),
            uid=metadata["uid"],
            generation=metadata.get("generation", 0),
            conditions=tuple(conditions(status.get("conditions", ()))),
        ),
        status=status,
    )


def relevant_of_pool(watched: WatchedPool) -> object:
    """What of a pool may change the plan; our own status is not part of it, or each write would wake the loop."""
    return replace(watched.pool, conditions=()), [build.abilities for build in watched.pool.engines]


def status(report: PoolReport, *, now: datetime) -> Object:
    """``status`` as it should be; conditions that did not flip keep their time."""
    waiting = sum(1 for row in report.engines if row.offered and row.adopted != row.offered)
    rows = WorkerPoolStatus(
        observed_generation=report.pool.generation,
        nodes=report.nodes,
        workers=WorkerCount(wanted=report.workers, ready=report.ready),
        engines=tuple(
            EngineStatus(engine=row.engine, adopted=row.adopted, offered=row.offered) for row in report.engines
        ),
        conditions=tuple(
            condition(PoolCondition, row, before=report.pool.conditions, generation=report.pool.generation, now=now)
            for row in report.conditions
        ),
        printed=PoolPrinted(ready=f"{report.ready}/{report.workers}", offered=str(waiting) if waiting else "-"),
    )
    return rows.model_dump(mode="json", by_alias=True, exclude_none=True)


def pool_status(report: PoolReport, rendered: Object, *, resource_version: int) -> Object:
    """What is applied to the status subresource; the version keeps it off a later pool of that name."""
    return {
        "apiVersion": API_VERSION,
        "kind": WORKER_POOL.name,
        "metadata": {"name": report.pool.name, "resourceVersion": str(resource_version)},
        "status": rendered,
    }


def adoption_name(release: str, pool_name: str) -> str:
    """``<release>-pool-<pool>``."""
    return f"{release}-pool-{pool_name}"


def adoption(
    pool_name: str, engines: Iterable[EngineBuild], workloads: Workloads, *, namespace: str, pool_uid: str
) -> Object:
    """The ConfigMap that keeps what was adopted: a value for each engine."""
    builds = sorted(engines, key=lambda build: build.engine)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": adoption_name(workloads.release, pool_name),
            "namespace": namespace,
            "labels": {**labels(workloads, _OPERATOR), POOL_LABEL: pool_name},
            "annotations": {
                _ABILITIES: _ENGINES.dump_json(
                    tuple(map(_engine, builds)), by_alias=True, exclude_defaults=True
                ).decode()
            },
            "ownerReferences": owned_by(pool_name, pool_uid),
        },
        "data": {build.engine: build.image for build in builds},
    }


def adopted(obj: Object) -> Adoption:
    """What such a ConfigMap says."""
    metadata = obj["metadata"]
    owners = [owner["uid"] for owner in metadata.get("ownerReferences", ()) if owner.get("kind") == WORKER_POOL.name]
    if not owners:
        raise Unreadable("it names no WorkerPool as its owner")
    described = {build: build for build in _builds(metadata.get("annotations", {}).get(_ABILITIES, "[]"))}
    recorded = [
        EngineBuild(engine=engine, image=image.strip()) for engine, image in sorted(obj.get("data", {}).items())
    ]
    return Adoption(
        pool=metadata["labels"][POOL_LABEL],
        pool_uid=owners[0],
        engines=tuple(described.get(build, build) for build in recorded),
    )


def _builds(text: str) -> tuple[EngineBuild, ...]:
    """None where it cannot be read: for the sake of a description an adoption must not be forgotten."""
    try:
        return tuple(map(_build, _ENGINES.validate_json(text)))
    except ValidationError:
        return ()


def _build(engine: PoolEngine) -> EngineBuild:
    major, minor = (engine.compute_capability or "0.0").split(".")
    return EngineBuild(
        engine=engine.engine,
        image=engine.image,
        backends=frozenset(engine.backends),
        version=engine.version or "",
        capability=(int(major), int(minor)),
    )


def _engine(build: EngineBuild) -> PoolEngine:
    return PoolEngine.model_validate(
        {
            "engine": build.engine,
            "image": build.image,
            "backends": sorted(build.backends),
            "version": build.version or None,
            "computeCapability": ".".join(map(str, build.capability)) if any(build.capability) else None,
        }
    )


def _template(workers: workerpool.Workers) -> WorkerTemplate:
    return WorkerTemplate(
        cell=workers.cell,
        devices=Devices(workers.devices),
        storage_class=workers.store.storage_class_name,
        store_bytes=whole_bytes(workers.store.size),
        cpu_millis=_millis(workers.resources.cpu),
        memory_bytes=whole_bytes(workers.resources.memory),
        request_cpu_millis=_millis(workers.requests.cpu),
        request_memory_bytes=whole_bytes(workers.requests.memory),
        tolerations=tuple(
            Toleration(
                key=each.key or "",
                operator=each.operator,
                value=each.value or "",
                effect=each.effect or "",
                seconds=each.toleration_seconds,
            )
            for each in workers.tolerations
        ),
        drain_seconds=workers.drain_seconds,
    )


def _millis(cores: str) -> int:
    return max(1, int(number(cores) * Decimal(1000)))
