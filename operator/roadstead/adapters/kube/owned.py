"""Pods, claims and budgets as the API server has them, as far as anybody here needs them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from roadstead.adapters.kube.api import Object
from roadstead.adapters.kube.pods import (
    CELL_LABEL,
    COMPONENT_LABEL,
    IMAGE_ANNOTATION,
    NODE_ANNOTATION,
    POOL_LABEL,
    TEMPLATE_ANNOTATION,
)
from roadstead.domain.workload import NodePod, PodRole, claim_name

_CLAIMS: Final = claim_name("")
_ROLES: Final = {role.value: role for role in PodRole}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One of our own Pods: agents, workers, heads, gateways, operators."""

    name: str
    uid: str
    component: str
    cell: str
    pool: str
    node: str
    """The Node's whole name: where it is to run if the operator made it, else where it runs."""
    image: str
    template: str
    ip: str
    ready: bool
    finished: bool
    deleted_by: datetime | None
    """When it is to be gone, grace period included; None: nobody has asked for its end."""


def pod(obj: Object) -> Pod:
    """A Pod."""
    metadata, spec, status = obj["metadata"], obj.get("spec", {}), obj.get("status", {})
    labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
    deleted = metadata.get("deletionTimestamp")
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        component=labels.get(COMPONENT_LABEL, ""),
        cell=labels.get(CELL_LABEL, ""),
        pool=labels.get(POOL_LABEL, ""),
        node=annotations.get(NODE_ANNOTATION) or spec.get("nodeName", ""),
        image=annotations.get(IMAGE_ANNOTATION, ""),
        template=annotations.get(TEMPLATE_ANNOTATION, ""),
        ip=status.get("podIP", ""),
        ready=is_true(obj, "Ready"),
        finished=status.get("phase") in {"Succeeded", "Failed"},
        deleted_by=datetime.fromisoformat(deleted).astimezone(UTC) if deleted else None,
    )


def node_pod(seen: Pod) -> NodePod | None:
    """The Pod for the planner, if it is one that the operator makes."""
    role = _ROLES.get(seen.component)
    if role is None or not seen.template:
        return None
    return NodePod(
        name=seen.name,
        uid=seen.uid,
        role=role,
        node=seen.node,
        pool=seen.pool,
        image=seen.image,
        template=seen.template,
        ready=seen.ready,
        deleting=seen.deleted_by is not None,
        finished=seen.finished,
    )


@dataclass(frozen=True, slots=True)
class Named:
    """An object of which only its being there matters."""

    name: str

    @property
    def is_weights_claim(self) -> bool:
        """Whether it is named as a claim of a node's weights."""
        return self.name.startswith(_CLAIMS)


def named(obj: Object) -> Named:
    """A claim or a budget; one that is being deleted is there until it is gone."""
    return Named(obj["metadata"]["name"])


def is_true(obj: Object, condition: str) -> bool:
    """Whether the status has this condition, and True."""
    conditions = obj.get("status", {}).get("conditions") or ()
    return any(entry.get("type") == condition and entry.get("status") == "True" for entry in conditions)
