"""The objects of a simulated fleet in a real API server: Nodes, their pool, and LocalModels by the thousand.

One model in ten is one that cannot be served as asked, as in a real fleet: its source is not there, it fits nowhere, or
it asks for a pool that does not exist. Everything is applied, so it can be run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from roadstead.adapters.kube.api import APPLY, Api
from tests.simulation.catalogue import published
from tests.simulation.node import ENGINE

POOL: Final = "simulated"
POOL_LABEL: Final = "roadstead.dev/pool"
FIELD_MANAGER: Final = "simulation"
_SIDE_BY_SIDE: Final = 16
_ODD_ONE_IN: Final = 10
_SIZES_MEBIBYTES: Final = ((900, 500), (1800, 1000), (3500, 2000), (600, 350))
"""Of a model's two variants, in turn."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """An object and where it is."""

    path: str
    body: Object
    status: bool = False
    """Whether it goes to the status subresource."""

    @property
    def url(self) -> str:
        return f"{self.path}/status" if self.status else self.path


def moment(*, micro: bool = False) -> str:
    """Now, as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


_BOOTED: Final = moment()
"""A sign of life is no transition: that time stays, or each would be a changed Node."""


def node(name: str) -> Written:
    """The Node as a kubelet registers it."""
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", POOL_LABEL: POOL}
    return Written(
        f"/api/v1/nodes/{name}", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    )


def node_status(name: str, *, ready: bool = True) -> Written:
    """What a kubelet tells of it."""
    told = moment()
    condition = {
        "type": "Ready",
        "status": "True" if ready else "Unknown",
        "reason": "KubeletReady" if ready else "NodeStatusUnknown",
        "message": "kubelet is posting ready status" if ready else "Kubelet stopped posting node status.",
        "lastHeartbeatTime": told,
        "lastTransitionTime": _BOOTED if ready else told,
    }
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"conditions": [condition]}}
    return Written(f"/api/v1/nodes/{name}", body, status=True)


def node_lease(name: str) -> Written:
    """A kubelet's sign of life."""
    spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": moment(micro=True)}
    return Written(
        f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}",
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": spec,
        },
    )


def pool() -> Written:
    """The one pool of all simulated nodes; its workers are no Pods."""
    spec = {"nodeSelector": {POOL_LABEL: POOL}, "engines": [ENGINE.model_dump()]}
    return Written(
        f"/apis/roadstead.dev/v1alpha1/workerpools/{POOL}",
        {"apiVersion": "roadstead.dev/v1alpha1", "kind": "WorkerPool", "metadata": {"name": POOL}, "spec": spec},
    )


def local_model(namespace: str, name: str, **spec: object) -> Written:
    """A LocalModel with this spec."""
    return Written(
        f"/apis/roadstead.dev/v1alpha1/namespaces/{namespace}/localmodels/{name}",
        {
            "apiVersion": "roadstead.dev/v1alpha1",
            "kind": "LocalModel",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        },
    )


def model_of_many(namespace: str, number: int) -> Written:
    """The model of that number: two variants, one or two replicas; one in ten cannot be served as asked."""
    name = f"model-{number:04d}"
    large, small = _SIZES_MEBIBYTES[number % len(_SIZES_MEBIBYTES)]
    spec: Object = {
        "replicas": 1 + number % 2,
        "requirements": {"contextTokens": 2048},
        "variants": [
            {"name": "q8", "source": published(f"{name}-q8", mebibytes=large), "quality": 1.0},
            {"name": "q4", "source": published(f"{name}-q4", mebibytes=small), "quality": 0.9},
        ],
    }
    if number % _ODD_ONE_IN == _ODD_ONE_IN - 1:
        match number // _ODD_ONE_IN % 3:
            case 0:
                spec["variants"] = [{"name": "q8", "source": published(f"{name}-missing", mebibytes=large)}]
            case 1:
                spec["variants"] = [{"name": "f16", "source": published(f"{name}-f16", mebibytes=500_000)}]
            case _:
                spec["placement"] = {"pools": ["elsewhere"]}
    return local_model(namespace, name, **spec)


async def apply(api: Api, objects: Iterable[Written], *, side_by_side: int = _SIDE_BY_SIDE) -> None:
    """Server-side apply of each, several at a time, in no order. Raises what the API server says."""
    waiting = iter(objects)

    async def some() -> None:
        for each in waiting:
            await apply_one(api, each)

    async with asyncio.TaskGroup() as group:
        for _ in range(side_by_side):
            group.create_task(some())


async def apply_one(api: Api, written: Written) -> Object:
    """Server-side apply; the object as it is then."""
    query = {"fieldManager": FIELD_MANAGER, "force": "true"}
    return await api.request("PATCH", written.url, query=query, body=written.body, content_type=APPLY)


async def namespace(api: Api, name: str) -> None:
    """Make the namespace."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await apply_one(api, Written(f"/api/v1/namespaces/{name}", body))


async def nodes(api: Api, names: Iterable[str]) -> None:
    """Nodes that are Ready, and their pool. Keep their Leases, or a controller-manager will think them dead."""
    listed = list(names)
    await apply(api, (node_lease(name) for name in listed))
    await apply(api, (node(name) for name in listed))
    await apply(api, (node_status(name) for name in listed))
    await apply_one(api, pool())
