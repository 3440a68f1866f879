"""Command lines of a Ray cell on one machine: a head without CPUs and one raylet per node.

Each Ray node has a loopback address of its own (never 127.0.0.1, which Ray replaces by the machine's outer address), a
temporary directory of its own (short: Ray's sockets live there) and a share of the worker ports. The loopback network
is derived from the home, so that two fleets of one machine do not meet, not even in Ray Serve's own ports.

Known weakness: Ray's GCS, raylets and dashboard agents listen on all addresses of the machine, and Ray has no setting
for that. Their gRPC doors demand the cell's token; their metrics ports do not.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from roadstead.embedded.home import Home
from roadstead.embedded.ports import PortWish
from roadstead.embedded.processes import ProcessSpec
from roadstead.embedded.readiness import answers

_OBJECT_STORE_BYTES = 100 << 20
"""Ray's least is 75 MiB; weights never go through it."""
_WORKER_PORTS = 400
_SINGLE_PORTS = (
    "node-manager",
    "object-manager",
    "dashboard-agent-listen",
    "dashboard-agent-grpc",
    "runtime-env-agent",
    "metrics-export",
)
HEAD = "ray-head"
_STOP_SECONDS = 4.0
"""A raylet with a worker that serves never ends on SIGTERM, nor does a head with its Serve controller: more is wasted.

What they leave is ended by their session, and the head's store survives a SIGKILL.
"""


@dataclass(frozen=True, slots=True)
class LoopbackNetwork:
    """Addresses that only this fleet uses."""

    prefix: str

    @classmethod
    def of(cls, home: Home) -> LoopbackNetwork:
        """One of 250 networks under 127.0.0.0/8, by the home's identity."""
        return cls(f"127.{int(home.identity, 16) % 250 + 1}.0")

    @property
    def head(self) -> str:
        return f"{self.prefix}.10"

    def node(self, index: int) -> str:
        """The address of the node with this index, counted from 0."""
        return f"{self.prefix}.{index + 2}"


@dataclass(frozen=True, slots=True)
class RayNode:
    """One raylet: a name, an address, what its replicas find in their environment."""

    name: str
    host: str
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RayCell:
    """A head and its nodes."""

    home: Home
    network: LoopbackNetwork
    ports: Mapping[str, int]
    token_file: Path
    nodes: tuple[RayNode, ...]
    head_env: Mapping[str, str]

    @property
    def dashboard_url(self) -> str:
        return f"http://{self.network.head}:{self.ports['ray-dashboard']}"

    def head(self) -> ProcessSpec:
        temporary = self._temporary("head")
        command = (
            *_ray_start(),
            "--head",
            f"--port={self.ports['ray-gcs']}",
            # Ray starts its client server whether asked or not, by default on one port of the whole machine.
            f"--ray-client-server-port={self.ports['ray-client']}",
            f"--dashboard-host={self.network.head}",
            f"--dashboard-port={self.ports['ray-dashboard']}",
            "--include-dashboard=true",
            "--no-monitor",
            "--num-cpus=0",
            *self._common("head", self.network.head, temporary),
        )
        storage = self.home.data / "ray-gcs"
        environment = {
            **self._environment(),
            **self.head_env,
            "RAY_gcs_storage": "rocksdb",
            "RAY_gcs_storage_path": str(storage),
            "DASHBOARD_METRIC_PORT": str(self.ports["ray-dashboard-metrics"]),
        }

        def prepare() -> None:
            storage.mkdir(parents=True, exist_ok=True)
            # `ray start --head` refuses to start if this names a cluster while any raylet runs on the machine.
            (temporary / "ray_current_cluster").unlink(missing_ok=True)

        return ProcessSpec(
            name=HEAD,
            command=command,
            env=environment,
            prepare=prepare,
            ready=answers(f"{self.dashboard_url}/api/gcs_healthz"),
            ready_within_seconds=180,
            stop_within_seconds=_STOP_SECONDS,
        )

    def raylet(self, node: RayNode, *, depends_on: tuple[str, ...] = ()) -> ProcessSpec:
        command = (
            *_ray_start(),
            f"--address={self.network.head}:{self.ports['ray-gcs']}",
            f"--labels=roadstead.dev/node={node.name}",
            *self._common(node.name, node.host, self._temporary(node.name)),
        )
        health = f"http://{node.host}:{self.ports[f'{node.name}-dashboard-agent-listen']}/api/local_raylet_healthz"
        return ProcessSpec(
            name=f"{node.name}-raylet",
            command=command,
            env={**self._environment(), **node.env},
            depends_on=(HEAD, *depends_on),
            ready=answers(health),
            ready_within_seconds=180,
            stop_within_seconds=_STOP_SECONDS,
        )

    def _common(self, owner: str, host: str, temporary: Path) -> tuple[str, ...]:
        first = self.ports[f"{owner}-workers"]
        return (
            "--block",
            f"--node-ip-address={host}",
            f"--temp-dir={temporary}",
            f"--object-store-memory={_OBJECT_STORE_BYTES}",
            f"--min-worker-port={first}",
            f"--max-worker-port={first + _WORKER_PORTS - 1}",
            *(f"--{name}-port={self.ports[f'{owner}-{name}']}" for name in _SINGLE_PORTS),
            "--disable-usage-stats",
            "--log-style=record",
            "--log-color=false",
        )

    def _environment(self) -> dict[str, str]:
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            # A head that is away must not end the raylets: their replicas serve meanwhile.
            "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",
            "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
            # Ours is the only gateway and it has moved traffic away before a replica is told to stop.
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
            # Engines are children of Ray's workers, which would otherwise run at nice 15.
            "RAY_worker_niceness": "0",
            "PYTHONUNBUFFERED": "1",
        }

    def _temporary(self, owner: str) -> Path:
        return self.home.runtime / "ray" / owner


def ray_ports(network: LoopbackNetwork, nodes: tuple[str, ...]) -> tuple[PortWish, ...]:
    """Every port of a cell, so that none is left for Ray to choose where another process might."""
    owners = {"head": network.head} | {name: network.node(index) for index, name in enumerate(nodes)}
    wishes = [
        PortWish("ray-gcs", network.head),
        PortWish("ray-client", network.head),
        PortWish("ray-dashboard", network.head),
        PortWish("ray-dashboard-metrics", network.head),
        PortWish("ray-serve", network.head),
    ]
    for owner, host in owners.items():
        wishes += [PortWish(f"{owner}-{name}", host) for name in _SINGLE_PORTS]
        wishes.append(PortWish(f"{owner}-workers", host, count=_WORKER_PORTS))
    return tuple(wishes)


def _ray_start() -> tuple[str, ...]:
    return sys.executable, "-m", "ray.scripts.scripts", "start"
