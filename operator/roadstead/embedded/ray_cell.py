"""A Ray cell on one machine: a head without CPUs and one raylet per node, started as a cluster starts them.

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
from roadstead_worker.contract import RAY_NODE_PORTS

_WORKER_PORTS = 400
HEAD = "ray-head"
_STOP_SECONDS = 10.0
"""The launcher gives Ray 4 s and ends then what is left."""


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
        own = {name: self.ports[f"ray-{name}"] for name in ("gcs", "client", "dashboard-metrics")}
        return ProcessSpec(
            name=HEAD,
            command=_launcher("head"),
            env={
                **self.head_env,
                **self._environment("head", self.network.head, own),
                "ROADSTEAD_RAY_DASHBOARD": self.dashboard_url,
                "ROADSTEAD_STATE_DIR": str(self.home.data),
            },
            ready=answers(f"{self.dashboard_url}/api/gcs_healthz"),
            ready_within_seconds=180,
            stop_within_seconds=_STOP_SECONDS,
        )

    def raylet(self, node: RayNode, *, depends_on: tuple[str, ...] = ()) -> ProcessSpec:
        health = f"http://{node.host}:{self.ports[f'{node.name}-dashboard-agent-listen']}/api/local_raylet_healthz"
        return ProcessSpec(
            name=f"{node.name}-raylet",
            command=_launcher("node"),
            env={
                **node.env,
                **self._environment(node.name, node.host, {}),
                "ROADSTEAD_RAY_HEAD": f"{self.network.head}:{self.ports['ray-gcs']}",
            },
            depends_on=(HEAD, *depends_on),
            ready=answers(health),
            ready_within_seconds=180,
            stop_within_seconds=_STOP_SECONDS,
        )

    def _environment(self, owner: str, host: str, own_ports: Mapping[str, int]) -> dict[str, str]:
        first = self.ports[f"{owner}-workers"]
        ports = {
            **own_ports,
            **{name: self.ports[f"{owner}-{name}"] for name in RAY_NODE_PORTS},
            "min-worker": first,
            "max-worker": first + _WORKER_PORTS - 1,
        }
        return {
            "ROADSTEAD_POD_IP": host,
            "ROADSTEAD_RAY_TOKEN_FILE": str(self.token_file),
            "ROADSTEAD_RAY_FOLDER": str(self.home.runtime / "ray" / owner),
            "ROADSTEAD_RAY_PORTS": ",".join(f"{name}={port}" for name, port in ports.items()),
        }


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
        wishes += [PortWish(f"{owner}-{name}", host) for name in RAY_NODE_PORTS]
        wishes.append(PortWish(f"{owner}-workers", host, count=_WORKER_PORTS))
    return tuple(wishes)


def _launcher(role: str) -> tuple[str, ...]:
    return sys.executable, "-m", "roadstead_worker.ray", role
