"""Keeps a Node Ready exactly as long as its agent and its raylet live, by what a kubelet would do: renew its Lease.

Once a Lease is not renewed, the node-lifecycle-controller sets the Node to Unknown after its grace period (50 s), and
the operator sees what it would see in a cluster. Nothing is written but Leases while nothing changes.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from roadstead.embedded.kube_door import KubeDoor, KubeError, open_door

log = structlog.get_logger(__name__)

RENEW_SECONDS = 10.0
_LEASE_SECONDS = 40


async def keep_nodes_ready(
    kubeconfig: Path, nodes: tuple[str, ...], *, lives: Callable[[str], bool], poll_seconds: float = 0.5
) -> None:
    """Renew the Lease of every node for which `lives` says so, every 10 s and as soon as one comes back."""
    renewed: dict[str, float] = {}
    async with open_door(kubeconfig) as door:
        while True:
            for node in nodes:
                if not lives(node):
                    renewed.pop(node, None)
                elif time.monotonic() - renewed.get(node, float("-inf")) >= RENEW_SECONDS:
                    try:
                        await _renew(door, node)
                        renewed[node] = time.monotonic()
                    except (KubeError, aiohttp.ClientError, TimeoutError) as error:
                        log.warning("a node's lease could not be renewed", node=node, error=str(error))
            await asyncio.sleep(poll_seconds)


def node_path(name: str) -> str:
    return f"/api/v1/nodes/{name}"


def ready_condition(now: float) -> dict[str, str]:
    """A kubelet's Ready condition."""
    moment = _moment(now)
    return {
        "type": "Ready",
        "status": "True",
        "reason": "AgentAndRayletLive",
        "message": "the node agent and the raylet of this node run",
        "lastHeartbeatTime": moment,
        "lastTransitionTime": moment,
    }


async def _renew(door: KubeDoor, node: str) -> None:
    now = time.time()
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": _moment(now, micro=True)},
    }
    await door.apply(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}", lease)
    found = await door.get(node_path(node))
    if found is not None and not _is_ready(found):
        # The controller has judged it dead meanwhile; only the node itself says that it lives again.
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node},
            "status": {"conditions": [ready_condition(now)]},
        }
        await door.apply(node_path(node), body, subresource="status")


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions") or []
    return any(row["type"] == "Ready" and row["status"] == "True" for row in conditions)


def _moment(unix: float, *, micro: bool = False) -> str:
    moment = datetime.datetime.fromtimestamp(unix, tz=datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")
