"""What must exist in the API server before the operator starts: namespace, CRDs, the pool and the Nodes.

Run once per start as `python -m roadstead.embedded.cluster_objects KUBECONFIG NODE=ADDRESS…`; all of it is applied, so
it can be run at any time. Nodes are Ready from the first moment only if their Lease is renewed (`node_heartbeat`).
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
import time
from pathlib import Path
from typing import Any

import yaml

import roadstead
from roadstead.embedded.failures import EmbeddedFleetError
from roadstead.embedded.kube_door import KubeDoor, open_door
from roadstead.embedded.node_heartbeat import node_path, ready_condition

NAMESPACE = "roadstead"
POOL = "local"
_ESTABLISHED_SECONDS = 30.0


def custom_resource_files() -> list[Path]:
    """The CRDs: shipped inside a wheel, beside the chart in a clone."""
    package = Path(roadstead.__file__).parent
    for folder in (package / "crds", package.parents[1] / "charts" / "roadstead" / "crds"):
        files = sorted(folder.glob("*.yaml"))
        if files:
            return files
    raise EmbeddedFleetError(
        "ResourcesMissing",
        "The custom resource definitions are not part of this installation.",
        remedy="Install the wheel anew, or run from a complete clone (charts/roadstead/crds).",
    )


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


async def apply_all(door: KubeDoor, nodes: dict[str, str]) -> None:
    """Apply everything; returns once the resources can be used."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    await door.apply(f"/api/v1/namespaces/{NAMESPACE}", namespace)
    names = []
    for file in custom_resource_files():
        for document in yaml.safe_load_all(file.read_text()):
            names.append(document["metadata"]["name"])
            await door.apply(_definition_path(names[-1]), document)
    for name in names:
        await _until_established(door, name)
    for name, address in nodes.items():
        await door.apply(node_path(name), node_object(name))
        await door.apply(node_path(name), node_status(name, address, time.time()), subresource="status")
    await door.apply(f"/apis/roadstead.dev/v1alpha1/workerpools/{POOL}", worker_pool())


async def _until_established(door: KubeDoor, name: str) -> None:
    deadline = time.monotonic() + _ESTABLISHED_SECONDS
    while time.monotonic() < deadline:
        found = await door.get(_definition_path(name)) or {}
        conditions = found.get("status", {}).get("conditions") or []
        if any(row["type"] == "Established" and row["status"] == "True" for row in conditions):
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"{name} is not established after {_ESTABLISHED_SECONDS:.0f} s")


def _definition_path(name: str) -> str:
    return f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"


async def _main(kubeconfig: Path, nodes: dict[str, str]) -> None:
    async with open_door(kubeconfig) as door:
        await apply_all(door, nodes)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), dict(node.split("=", 1) for node in sys.argv[2:])))
