"""``ray start`` for a head and for a worker: command line and environment."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

from roadstead_worker.contract import RAY_NODE_PORTS
from roadstead_worker.ray.settings import RayHead, RayNode, RayWorker

_OBJECT_STORE_BYTES: Final = 100 << 20
"""Ray's least is 75 MiB; weights never go through it."""
_LOG_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class RayStart:
    """A command and the variables that it needs beside those of its parent."""

    command: tuple[str, ...]
    environment: dict[str, str]


def start_head(head: RayHead) -> RayStart:
    node = head.node
    command = (
        *_ray_start(node),
        "--head",
        f"--port={node.ports['gcs']}",
        # Ray starts its client server whether asked or not, by default on one port of the whole machine.
        f"--ray-client-server-port={node.ports['client']}",
        f"--dashboard-host={head.dashboard_host}",
        f"--dashboard-port={head.dashboard_port}",
        "--include-dashboard=true",
        "--no-monitor",
        "--num-cpus=0",
    )
    environment = {
        **_environment(node),
        "RAY_gcs_storage": "rocksdb",
        "RAY_gcs_storage_path": str(head.store),
        "DASHBOARD_METRIC_PORT": str(node.ports["dashboard-metrics"]),
    }
    return RayStart(command, environment)


def start_worker(worker: RayWorker) -> RayStart:
    labels = ",".join(f"{name}={value}" for name, value in worker.labels.items())
    command = (
        *_ray_start(worker.node),
        f"--address={worker.head}",
        f"--labels={labels}",
        # As many idle Python processes as there are CPUs would be kept ready. Slots ask for none: Ray does not plan.
        "--num-cpus=1",
    )
    return RayStart(command, _environment(worker.node))


def _ray_start(node: RayNode) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "ray.scripts.scripts", "start"),
        "--block",
        f"--node-ip-address={node.address}",
        f"--temp-dir={node.folder}",
        f"--object-store-memory={_OBJECT_STORE_BYTES}",
        f"--min-worker-port={node.ports['min-worker']}",
        f"--max-worker-port={node.ports['max-worker']}",
        *(f"--{name}-port={node.ports[name]}" for name in RAY_NODE_PORTS),
        # It sends what workers write to drivers, and we have none: a process of 80 MiB less.
        "--include-log-monitor=false",
        "--disable-usage-stats",
        "--log-style=record",
        "--log-color=false",
    )


def _environment(node: RayNode) -> dict[str, str]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(node.token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        # A head that is away must not end the raylets: their replicas serve meanwhile.
        "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
        # Ours is the only gateway and it has moved traffic away before a replica is told to stop.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        # Engines are children of Ray's workers, which would otherwise run at nice 15.
        "RAY_worker_niceness": "0",
        # Leases say who may use how much. Ray would end whole replicas, and counts mapped weights as theirs.
        "RAY_memory_monitor_refresh_ms": "0",
        # Ray would make replicas the kernel's first choice when memory runs out. That is their engines, with 1000.
        "RAY_worker_oom_score_adjustment": "500",
        # Ray's own are 512 MiB five times for each of its processes; a Pod's folder is smaller.
        "RAY_ROTATION_MAX_BYTES": str(_LOG_BYTES),
        "RAY_ROTATION_BACKUP_COUNT": "1",
        "PYTHONUNBUFFERED": "1",
    }
