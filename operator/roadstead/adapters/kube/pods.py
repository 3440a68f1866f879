"""The Pods that the operator makes: one agent on each node of a pool, one worker on each for each image.

Both mount the node's claim, are held to their node by affinity rather than ``nodeName`` (with that, nobody would
schedule them, and a claim that waits for its first consumer would never bind), and are owned by their WorkerPool as
their controller: `kubectl drain` refuses a Pod that nothing would bring back. They stay on a node that is cordoned or
out of reach: engines that still answer are worth more than tidiness, and when to leave is the planner's decision.

A change here that running Pods must follow raises the role's number below. A worker's costs every slot a move.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from roadstead.adapters.kube.api import Object
from roadstead.adapters.kube.resources import API_VERSION, WORKER_POOL
from roadstead.adapters.kube.workloads import Workloads
from roadstead.domain import workload as domain
from roadstead.domain.workload import ClaimWish, PodRole, PodWish, Toleration, claim_name

_AGENT_RENDERING: Final = 1
_WORKER_RENDERING: Final = 1

CELL_LABEL: Final = "roadstead.dev/cell"
POOL_LABEL: Final = "roadstead.dev/pool"
POD_LABEL: Final = "roadstead.dev/pod"
"""The Pod's own name: what its PodDisruptionBudget selects."""
NODE_ANNOTATION: Final = "roadstead.dev/node"
IMAGE_ANNOTATION: Final = "roadstead.dev/image"
TEMPLATE_ANNOTATION: Final = "roadstead.dev/template"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
PART_OF: Final = {"app.kubernetes.io/part-of": "roadstead"}

AGENT_PORT: Final = 7441
_RAY_AGENT_PORT: Final = 52365
_USER: Final = 10001
_TOKENS: Final = "/etc/roadstead/tokens"
_AGENT_GRACE_SECONDS: Final = 30
"""An agent may take so much longer to end than the workers beside it, whose engines hold its leases."""
_SHARED_MEMORY: Final = "256Mi"
"""Ray's object store lies there; what is in it counts as the worker's memory."""
_STAYS: Final = (
    Toleration(key="node.kubernetes.io/unschedulable", operator="Exists", effect="NoSchedule"),
    Toleration(key="node.kubernetes.io/not-ready", operator="Exists", effect="NoExecute"),
    Toleration(key="node.kubernetes.io/unreachable", operator="Exists", effect="NoExecute"),
)


def asked_for(workloads: Workloads) -> domain.Workloads:
    """The chart's word as the planner needs it, with digests of all that would make a Pod another one."""
    agent = workloads.model_dump(mode="json", exclude={"release", "image", "cells"})
    # Of a worker only what it cannot go on without: a changed log level must move no slot. Of the cells nothing:
    # another cell must not touch the workers of this one, and a head's Service is named after its cell.
    worker = workloads.model_dump(mode="json", include={"tokens_secret"})
    return domain.Workloads(
        release=workloads.release,
        agent_image=workloads.image,
        agent_digest=_digest(_AGENT_RENDERING, agent),
        worker_digest=_digest(_WORKER_RENDERING, worker),
    )


def labels(workloads: Workloads, component: str) -> dict[str, str]:
    """On everything of ours."""
    return {
        **workloads.labels,
        "app.kubernetes.io/name": "roadstead",
        **PART_OF,
        "app.kubernetes.io/instance": workloads.release,
        "app.kubernetes.io/managed-by": "roadstead",
        COMPONENT_LABEL: component,
    }


def owned_by(pool: str, uid: str) -> list[Object]:
    """By the WorkerPool, as its controller. Without ``blockOwnerDeletion``, which would need a right on finalizers."""
    return [{"apiVersion": API_VERSION, "kind": WORKER_POOL.name, "name": pool, "uid": uid, "controller": True}]


def pod(wish: PodWish, workloads: Workloads, *, namespace: str, pool_uid: str, head: str) -> Object:
    """The Pod. ``head`` is the address of its cell's Ray head."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": wish.name,
            "namespace": namespace,
            "labels": {
                **labels(workloads, wish.role),
                CELL_LABEL: wish.worker.cell,
                POOL_LABEL: wish.pool,
                POD_LABEL: wish.name,
            },
            "annotations": {
                NODE_ANNOTATION: wish.node,
                IMAGE_ANNOTATION: wish.image,
                TEMPLATE_ANNOTATION: wish.template,
            },
            "ownerReferences": owned_by(wish.pool, pool_uid),
        },
        "spec": {
            **_common(wish, workloads),
            **(
                _agent_spec(wish, workloads) if wish.role is PodRole.AGENT else _worker_spec(wish, workloads, head=head)
            ),
        },
    }


def claim(wish: ClaimWish, workloads: Workloads, *, namespace: str) -> Object:
    """The claim for a node's weights. Nobody owns it: weights outlive pools and releases of the chart."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": wish.name,
            "namespace": namespace,
            "labels": {**labels(workloads, PodRole.AGENT), POOL_LABEL: wish.pool},
            "annotations": {NODE_ANNOTATION: wish.node},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            **({"storageClassName": wish.storage_class} if wish.storage_class is not None else {}),
            "resources": {"requests": {"storage": str(wish.bytes)}},
        },
    }


def budget(name: str, role: PodRole, workloads: Workloads, *, namespace: str, owners: list[Object]) -> Object:
    """Keeps evictions off the Pod of this name.

    ``minAvailable`` is a number, because a percentage (or ``maxUnavailable``) asks the Pod's controller for its scale,
    which a WorkerPool does not have.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels(workloads, role),
            "ownerReferences": owners,
        },
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {POD_LABEL: name}}},
    }


def _common(wish: PodWish, workloads: Workloads) -> Object:
    spec: Object = {
        "affinity": {"nodeAffinity": _only_on(wish.node)},
        "tolerations": [_toleration(each) for each in (*_STAYS, *wish.worker.tolerations)],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if workloads.priority_class_name is not None:
        spec["priorityClassName"] = workloads.priority_class_name
    if workloads.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in workloads.image_pull_secrets]
    return spec


def _agent_spec(wish: PodWish, workloads: Workloads) -> Object:
    return {
        "serviceAccountName": workloads.service_accounts.agent,
        "terminationGracePeriodSeconds": wish.worker.drain_seconds + _AGENT_GRACE_SECONDS,
        "containers": [_agent(wish, workloads)],
        "volumes": [*_volumes(wish), _tokens(workloads, "door.token")],
    }


def _worker_spec(wish: PodWish, workloads: Workloads, *, head: str) -> Object:
    return {
        "serviceAccountName": workloads.service_accounts.worker,
        "terminationGracePeriodSeconds": wish.worker.drain_seconds,
        "containers": [_worker(wish, workloads, head=head)],
        "volumes": [
            *_volumes(wish),
            _tokens(workloads, "replica.token", "ray.token"),
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": _SHARED_MEMORY}},
        ],
    }


def _agent(wish: PodWish, workloads: Workloads) -> Object:
    return {
        "name": "agent",
        "image": wish.image,
        "imagePullPolicy": workloads.image_pull_policy,
        "command": ["python3", "-m", "roadstead_worker.agent", "node"],
        "env": [
            *_variables(workloads),
            {"name": "ROADSTEAD_LISTEN", "value": f"0.0.0.0:{AGENT_PORT}"},
            _token("ROADSTEAD_DOOR_TOKEN_FILE", "door.token"),
            {"name": "ROADSTEAD_MEMORY_BYTES", "value": str(wish.worker.engine_memory_bytes)},
            {"name": "ROADSTEAD_CORES", "value": str(wish.worker.engine_cores)},
            {"name": "ROADSTEAD_HTTP_HOSTS", "value": ",".join(workloads.http_hosts)},
            {"name": "ROADSTEAD_ENGINE_OFFERS", "value": "[]"},
            *_nvidia("utility"),
        ],
        "ports": [{"name": "door", "containerPort": AGENT_PORT}],
        "resources": workloads.agent.resources.model_dump(exclude_defaults=True),
        "readinessProbe": _probe("/healthz", AGENT_PORT, period=2, timeout=2, failures=3),
        "livenessProbe": _probe("/healthz", AGENT_PORT, period=10, timeout=5, failures=6),
        "lifecycle": _drained(wish.role),
        "securityContext": _confined(),
        "volumeMounts": _mounts(),
    }


def _worker(wish: PodWish, workloads: Workloads, *, head: str) -> Object:
    # No liveness probe: one that failed on a busy machine would end engines that serve.
    return {
        "name": "worker",
        "image": wish.image,
        "imagePullPolicy": workloads.image_pull_policy,
        "command": ["python3", "-m", "roadstead_worker.ray", "node"],
        "env": [
            *_variables(workloads),
            _token("ROADSTEAD_REPLICA_TOKEN_FILE", "replica.token"),
            _token("ROADSTEAD_RAY_TOKEN_FILE", "ray.token"),
            {"name": "ROADSTEAD_RAY_HEAD", "value": head},
            {"name": "ROADSTEAD_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "ROADSTEAD_ENGINE_IMAGE", "value": wish.image},
            *_nvidia("compute,utility"),
        ],
        "ports": [{"name": "health", "containerPort": _RAY_AGENT_PORT}],
        "resources": {
            "limits": {"cpu": f"{wish.worker.cpu_millis}m", "memory": str(wish.worker.memory_bytes)},
            "requests": {
                "cpu": f"{wish.worker.request_cpu_millis}m",
                "memory": str(wish.worker.request_memory_bytes),
            },
        },
        "readinessProbe": _probe("/api/local_raylet_healthz", _RAY_AGENT_PORT, period=5, timeout=5, failures=3),
        "lifecycle": _drained(wish.role),
        "securityContext": _confined(),
        "volumeMounts": [*_mounts(), {"name": "shared-memory", "mountPath": "/dev/shm"}],  # noqa: S108 - a mount
    }


def _variables(workloads: Workloads) -> list[Object]:
    return [
        {"name": "HOME", "value": "/tmp"},  # noqa: S108 - an emptyDir of the Pod's own
        {"name": "ROADSTEAD_LOG_LEVEL", "value": workloads.log_level},
        {"name": "ROADSTEAD_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "ROADSTEAD_STORE", "value": "/store"},
    ]


def _nvidia(capabilities: str) -> list[Object]:
    """What makes NVIDIA's container runtime, where it is the node's default, bring in all cards; else it does nothing.

    No card is requested of the device plugin: an agent only reads them, and which engine uses which is in the plan.
    Pods that run stay as they are, so the roles' numbers above are the same.
    """
    return [
        {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"},
        {"name": "NVIDIA_DRIVER_CAPABILITIES", "value": capabilities},
    ]


def _token(variable: str, key: str) -> Object:
    return {"name": variable, "value": f"{_TOKENS}/{key}"}


def _tokens(workloads: Workloads, *keys: str) -> Object:
    """Only the keys that the Pod needs, readable by its group."""
    items = [{"key": key, "path": key} for key in keys]
    return {"name": "tokens", "secret": {"secretName": workloads.tokens_secret, "defaultMode": 0o440, "items": items}}


def _volumes(wish: PodWish) -> list[Object]:
    return [
        {"name": "store", "persistentVolumeClaim": {"claimName": claim_name(wish.node)}},
        {"name": "tmp", "emptyDir": {}},
    ]


def _mounts() -> list[Object]:
    return [
        {"name": "store", "mountPath": "/store"},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a mount
        {"name": "tokens", "mountPath": _TOKENS, "readOnly": True},
    ]


def _confined() -> Object:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _drained(role: PodRole) -> Object:
    """Ends when no lease is held any more; until then the process is not told to end."""
    return {"preStop": {"exec": {"command": ["python3", "-m", "roadstead_worker.drained", str(role)]}}}


def _probe(path: str, port: int, *, period: int, timeout: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def _only_on(node: str) -> Object:
    """By the Node's own name: its label ``kubernetes.io/hostname`` may differ from it."""
    itself = {"key": "metadata.name", "operator": "In", "values": [node]}
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [itself]}]}}


def _toleration(toleration: Toleration) -> Object:
    return {
        "operator": toleration.operator,
        **({"key": toleration.key} if toleration.key else {}),
        **({"value": toleration.value} if toleration.value else {}),
        **({"effect": toleration.effect} if toleration.effect else {}),
        **({"tolerationSeconds": toleration.seconds} if toleration.seconds is not None else {}),
    }


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
