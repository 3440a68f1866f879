"""Kubernetes objects into the domain's values. Nobody below this file sees a ``dict``.

A LocalModel that cannot be acted on is parsed all the same: its ``problems`` name the fields, so that its status can.
That happens although the API server checks the same rules, because an object may be older than its schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from roadstead.adapters.kube.api import Object
from roadstead.adapters.kube.constraints import in_seconds
from roadstead.adapters.kube.localmodel import LocalModelSpec
from roadstead.adapters.kube.localmodel import Spread as SpreadSpec
from roadstead.adapters.kube.owned import is_true
from roadstead.adapters.kube.quantities import whole_bytes
from roadstead.adapters.kube.resources import ModelRouteSpec
from roadstead.adapters.kube.store import Unreadable
from roadstead.domain.model import (
    Condition,
    ConditionStatus,
    FieldProblem,
    Model,
    ModelKey,
    ModelSpec,
    PlacementPolicy,
    Requirements,
    Spread,
    VariantSpec,
)
from roadstead.domain.quality import ANNOTATION, QualityRecord, RecordsUnreadable, from_text
from roadstead.domain.snapshot import Address, Node, Route, Taint


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedModel:
    """A LocalModel with what only this package needs of it."""

    model: Model
    packed_status: bytes
    """Its JSON. As objects it would be most of what an operator of thousands of models holds in memory."""
    finalizers: tuple[str, ...]

    @property
    def status(self) -> Object:
        """As the API server last told it."""
        unpacked: Object = json.loads(self.packed_status)
        return unpacked


def local_model(obj: Object, *, finalizer: str) -> WatchedModel:
    """A LocalModel; with ``problems`` and without ``spec`` where it cannot be acted on."""
    metadata = obj["metadata"]
    status = obj.get("status") or {}
    finalizers = tuple(metadata.get("finalizers", ()))
    spec, problems = model_spec(obj.get("spec"), name=metadata["name"])
    measured, ignored = _quality_records(metadata)
    deleted = metadata.get("deletionTimestamp")
    model = Model(
        key=ModelKey(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        generation=metadata.get("generation", 0),
        created=_time(metadata["creationTimestamp"]),
        deleted=_time(deleted) if deleted else None,
        finalized=finalizer in finalizers,
        spec=replace(spec, measured=measured) if spec is not None else None,
        problems=problems,
        ignored=ignored,
        conditions=tuple(conditions(status.get("conditions", ()))),
    )
    packed = json.dumps(status, separators=(",", ":")).encode()
    return WatchedModel(model=model, packed_status=packed, finalizers=finalizers)


def relevant_of_model(watched: WatchedModel) -> object:
    """What of a LocalModel may change the plan; our own status is not part of it, or each write would wake the loop."""
    model = watched.model
    measured = model.spec.measured if model.spec is not None else ()
    return (model.generation, model.deleted, model.finalized, measured, model.ignored)


def model_spec(raw: object, *, name: str) -> tuple[ModelSpec | None, tuple[FieldProblem, ...]]:
    """``spec`` with defaults filled in, or what is wrong with it."""
    try:
        # Through JSON: strict reading takes a list for a tuple and a word for an enum there, and nothing else.
        spec = LocalModelSpec.model_validate_json(json.dumps(raw), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        return None, _problems(error)
    return (
        ModelSpec(
            served_name=spec.served_name or name,
            aliases=spec.aliases,
            task=spec.task,
            variants=tuple(
                VariantSpec(name=rung.name, source=rung.source, digest=rung.digest, quality=rung.quality)
                for rung in spec.variants
            ),
            requirements=Requirements(
                context_tokens=spec.requirements.context_tokens,
                concurrency=spec.requirements.concurrency,
                cache_type=spec.requirements.cache_type,
                min_tokens_per_second=spec.requirements.min_tokens_per_second,
                max_seconds_to_first_token=_seconds(spec.requirements.max_time_to_first_token),
                min_quality=spec.requirements.min_quality,
            ),
            replicas=spec.replicas,
            keep_releases=spec.keep_releases,
            placement=PlacementPolicy(
                pools=spec.placement.pools,
                node_selector=pairs(spec.placement.node_selector),
                spread=_spread(spec.placement.spread),
                priority=spec.placement.priority,
            ),
        ),
        (),
    )


def _quality_records(metadata: Mapping[str, Any]) -> tuple[tuple[QualityRecord, ...], tuple[FieldProblem, ...]]:
    """What was measured, or why the annotation that should say so is passed over."""
    try:
        return from_text((metadata.get("annotations") or {}).get(ANNOTATION)), ()
    except RecordsUnreadable as error:
        return (), (FieldProblem(path=f"metadata.annotations[{ANNOTATION}]", message=str(error)),)


def _spread(spec: SpreadSpec | None) -> Spread | None:
    return None if spec is None else Spread(topology_key=spec.topology_key, max_skew=spec.max_skew)


def _seconds(text: str | None) -> float | None:
    return None if text is None else in_seconds(text)


def node(obj: Object) -> Node:
    """A Node. Heartbeats change nothing in here."""
    spec = obj.get("spec", {})
    return Node(
        name=obj["metadata"]["name"],
        labels=pairs(obj["metadata"].get("labels", {})),
        ready=is_true(obj, "Ready"),
        unschedulable=bool(spec.get("unschedulable")),
        taints=tuple(
            Taint(key=taint["key"], value=taint.get("value", ""), effect=taint["effect"])
            for taint in spec.get("taints", ())
        ),
        allocatable=tuple(_extended((obj.get("status") or {}).get("allocatable") or {})),
    )


def _extended(allocatable: Mapping[str, str]) -> Iterable[tuple[str, int]]:
    """What has a domain in its name. Memory and disk of a node, which move, have none."""
    for name, quantity in sorted(allocatable.items()):
        if "/" in name:
            with suppress(ValueError):  # of others, and not well formed
                yield name, whole_bytes(quantity)


def route(obj: Object) -> Route:
    """A ModelRoute."""
    try:
        spec = ModelRouteSpec.model_validate_json(
            json.dumps(obj.get("spec")), strict=True, by_alias=True, by_name=False
        )
    except ValidationError as error:
        raise Unreadable(sentence(error)) from error
    namespace, _, name = spec.model.partition("/")
    return Route(
        name=obj["metadata"]["name"],
        model=ModelKey(namespace, name),
        names=spec.names,
        task=spec.task,
        slots=tuple(
            Address(
                slot=slot.name,
                release=slot.release,
                variant=slot.variant,
                node=slot.node,
                addresses=slot.addresses,
                weight=slot.weight,
                capacity=slot.capacity,
                draining=slot.state == "Draining",
            )
            for slot in spec.slots
        ),
        resource_version=obj["metadata"]["resourceVersion"],
    )


def conditions(raw: Iterable[Mapping[str, Any]]) -> Iterable[Condition]:
    """Those that are well formed."""
    for condition in raw:
        try:
            yield Condition(
                type=condition["type"],
                status=ConditionStatus(condition["status"]),
                reason=condition.get("reason", ""),
                message=condition.get("message", ""),
                observed_generation=condition.get("observedGeneration", 0),
                last_transition=_time(condition["lastTransitionTime"]),
            )
        except (KeyError, ValueError):
            continue  # somebody else's, and not well formed: what we publish does not depend on it


def pairs(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Labels in an order of their own."""
    return tuple(sorted(labels.items()))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _problems(error: ValidationError) -> tuple[FieldProblem, ...]:
    found = error.errors(include_url=False)
    inside = {details["loc"][:depth] for details in found for depth in range(len(details["loc"]))}
    # A list whose items are all wrong counts as too short as well; that would only distract.
    told = [details for details in found if details["type"] != "too_short" or details["loc"] not in inside]
    return tuple(_problem(dict(details)) for details in told)


def _problem(details: Mapping[str, Any]) -> FieldProblem:
    path = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in details["loc"])
    match details["type"]:
        case "extra_forbidden":
            message = "is not a field of LocalModel"
        case "missing":
            message = "is required"
        case "json_invalid":
            message = "is not an object"
        case _:
            message = str(details["msg"])
    return FieldProblem(path=path, message=message)


def sentence(error: ValidationError) -> str:
    """What is wrong with a spec, field by field."""
    return "; ".join(f"{problem.path}: {problem.message}" for problem in _problems(error))
