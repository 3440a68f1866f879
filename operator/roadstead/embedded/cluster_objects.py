"""What must exist in the API server before the operator starts: namespace, CRDs, the pool and the Nodes.

Run once per start as `python -m roadstead.embedded.cluster_objects KUBECONFIG NODE=ADDRESS…`; all of it is applied, so
it can be run at any time. CRDs are only ever raised (`adapters/kube/definitions.py`). Nodes are Ready from the first
moment only if their Lease is renewed (`node_heartbeat`).
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roadstead.adapters.kube.definitions import Definition, Overtaken, bring_up, packaged
from roadstead.embedded.kube_door import KubeDoor, KubeError, open_door
from roadstead.embedded.node_heartbeat import node_path, ready_condition

NAMESPACE = "roadstead"
POOL = "local"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def worker_pool() -> dict[str, Any]:
    """The one pool of an embedded fleet; the wheel's version stands for an image."""
    engine = f"xllamacpp=={importlib.metadata.version('xllamacpp')}"
    return {
        "apiVersion": "roadstead.dev/v1alpha1",
        "kind": "WorkerPool",
        "metadata": {"name": POOL},
        "spec": {
            "nodeSelector": {"roadstead.dev/pool": POOL},
            "engines": [{"engine": "LlamaCpp", "image": engine}],
        },
    }


def node_object(name: str) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "roadstead.dev/pool": POOL}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def node_status(name: str, address: str, now: float) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "status": {"addresses": addresses, "conditions": [ready_condition(now)]},
    }


@dataclass(frozen=True, slots=True)
class _Definitions:
    """The cluster's definitions, through the supervisor's small client."""

    door: KubeDoor

    async def read(self, name: str) -> Definition | None:
        return await self.door.get(f"{_DEFINITIONS}/{name}")

    async def create(self, definition: Definition) -> None:
        await self.apply(definition)  # nobody else has this API server yet

    async def apply(self, definition: Definition) -> None:
        try:
            await self.door.apply(f"{_DEFINITIONS}/{definition['metadata']['name']}", definition)
        except KubeError as error:
            if error.status == 409:
                raise Overtaken from error
            raise


async def apply_all(door: KubeDoor, nodes: dict[str, str]) -> None:
    """Apply everything; returns once the resources can be used."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    await door.apply(f"/api/v1/namespaces/{NAMESPACE}", namespace)
    await bring_up(_Definitions(door), packaged())
    for name, address in nodes.items():
        await door.apply(node_path(name), node_object(name))
        await door.apply(node_path(name), node_status(name, address, time.time()), subresource="status")
    await door.apply(f"/apis/roadstead.dev/v1alpha1/workerpools/{POOL}", worker_pool())


async def _main(kubeconfig: Path, nodes: dict[str, str]) -> None:
    async with open_door(kubeconfig) as door:
        await apply_all(door, nodes)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), dict(node.split("=", 1) for node in sys.argv[2:])))
