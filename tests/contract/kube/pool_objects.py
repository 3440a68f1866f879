"""A pool whose workers are Pods, in a namespace that admits only what is restricted, and what is wished for there."""

from __future__ import annotations

import json
from typing import Any

from roadstead.adapters.kube.workloads import Workloads
from roadstead.domain.snapshot import Pool
from roadstead.domain.workload import (
    ClaimWish,
    PodRole,
    PodWish,
    WorkerTemplate,
    agent_pod_name,
    claim_name,
    worker_pod_name,
)
from tests.fixtures.control_plane import RunningControlPlane

DIGEST = "sha256:" + "a" * 64
IMAGE = f"registry.example/roadstead/worker-cpu@{DIGEST}"
NODE = "node-a.example"
WORKERS: dict[str, Any] = {
    "cell": "cell-0",
    "store": {"storageClassName": "local", "size": "50Gi"},
    "resources": {"cpu": "4", "memory": "8Gi"},
    "requests": {"cpu": "500m", "memory": "1Gi"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "drainSeconds": 120,
}
WORKLOADS = Workloads.model_validate(
    {
        "release": "roadstead",
        "image": "registry.example/roadstead:1.0.0",
        "tokensSecret": "roadstead-tokens",
        "serviceAccounts": {"agent": "roadstead-agent", "worker": "roadstead-worker"},
        "cells": {"cell-0": "roadstead-head-cell-0.roadstead.svc:6379"},
        "labels": {"team": "platform"},
        "agent": {"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}},
    }
)


def worker_pool(name: str, **workers: object) -> dict[str, Any]:
    return {
        "apiVersion": "roadstead.dev/v1alpha1",
        "kind": "WorkerPool",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"roadstead.dev/test": name},
            "engines": [{"engine": "LlamaCpp", "image": IMAGE}],
            "workers": {**WORKERS, **workers},
        },
    }


def restricted(plane: RunningControlPlane, namespace: str) -> None:
    """Admit only what is restricted, and have the accounts that the chart makes."""
    plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    for account in ("roadstead-agent", "roadstead-worker"):
        plane.kubectl("create", "serviceaccount", account, "-n", namespace)


def template_of(pool: Pool) -> WorkerTemplate:
    assert pool.workers is not None
    return pool.workers


def an_agent(pool: Pool, *, node: str = NODE) -> PodWish:
    return PodWish(
        name=agent_pod_name("roadstead", node),
        role=PodRole.AGENT,
        node=node,
        pool=pool.name,
        image=WORKLOADS.image,
        template="agent-template",
        worker=template_of(pool),
    )


def a_worker(pool: Pool, *, node: str = NODE) -> PodWish:
    return PodWish(
        name=worker_pod_name("roadstead", node, "0123456789"),
        role=PodRole.WORKER,
        node=node,
        pool=pool.name,
        image=IMAGE,
        template="0123456789",
        worker=template_of(pool),
    )


def a_claim(pool: Pool, *, node: str = NODE) -> ClaimWish:
    return ClaimWish(
        name=claim_name(node),
        node=node,
        pool=pool.name,
        storage_class=template_of(pool).storage_class,
        bytes=template_of(pool).store_bytes,
    )


def runs_on(plane: RunningControlPlane, namespace: str, pod: str, *, node: str, ip: str, ready: bool = True) -> None:
    """As a scheduler and a kubelet would have it."""
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod, "namespace": namespace},
        "target": {"kind": "Node", "name": node},
    }
    plane.kubectl(
        "create", "--raw", f"/api/v1/namespaces/{namespace}/pods/{pod}/binding", "-f", "-", stdin=json.dumps(binding)
    )
    running = {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
    }
    patch = json.dumps({"status": running})
    plane.kubectl("patch", "pod", pod, "-n", namespace, "--subresource=status", "--type=merge", f"-p={patch}")


def found(plane: RunningControlPlane, namespace: str, kind: str, name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(plane.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
    return read
