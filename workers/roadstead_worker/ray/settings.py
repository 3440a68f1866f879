"""What a Ray node is told by its environment; the same variables in a Pod and on one machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self
from urllib.parse import urlsplit

from roadstead_worker.contract import IMAGE_LABEL, NODE_LABEL, image_label

PORTS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "gcs": 6379,
        "node-manager": 6380,
        "object-manager": 6381,
        "runtime-env-agent": 6382,
        "dashboard-agent-grpc": 6383,
        "metrics-export": 6384,
        "dashboard-metrics": 6385,
        "client": 10001,
        "min-worker": 10002,
        "max-worker": 19999,
        "dashboard-agent-listen": 52365,
    }
)
"""Ports of a node that has an address of its own.

All are fixed, and apart from what the kernel gives to outgoing connections and from Serve's replicas (30000 to 31000):
a port left to Ray's choice is now and then one that another of its daemons wants.
"""


class SettingInvalid(Exception):
    """A variable is missing or wrong; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayNode:
    """What every node of a cell has."""

    address: str
    """IP address of the Pod; on one machine a loopback address of the node's own."""
    token_file: Path
    """The cell's token, which all of Ray's doors demand."""
    folder: Path
    """Ray's sockets, logs and session; short, because of the sockets."""
    ports: Mapping[str, int]

    @classmethod
    def from_environment(cls, given: Mapping[str, str]) -> Self:
        _demand(given, "ROADSTEAD_POD_IP", "ROADSTEAD_RAY_TOKEN_FILE")
        return cls(
            address=given["ROADSTEAD_POD_IP"],
            token_file=Path(given["ROADSTEAD_RAY_TOKEN_FILE"]),
            folder=Path(given.get("ROADSTEAD_RAY_FOLDER") or "/tmp/ray"),  # noqa: S108 - a volume of the Pod's own
            ports={**PORTS, **_ports(given.get("ROADSTEAD_RAY_PORTS", ""))},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RayHead:
    """The head of a cell: it runs no replica."""

    node: RayNode
    store: Path
    """Folder of the GCS's RocksDB; what survives of a cell."""
    dashboard_host: str
    dashboard_port: int

    @classmethod
    def from_environment(cls, given: Mapping[str, str]) -> Self:
        """Raises ``SettingInvalid``."""
        _demand(given, "ROADSTEAD_STATE_DIR")
        dashboard = urlsplit(given.get("ROADSTEAD_RAY_DASHBOARD") or "http://127.0.0.1:8265")
        if dashboard.hostname is None or dashboard.port is None:
            raise SettingInvalid(f"ROADSTEAD_RAY_DASHBOARD is http://host:port, not {dashboard.geturl()}")
        return cls(
            node=RayNode.from_environment(given),
            store=Path(given["ROADSTEAD_STATE_DIR"]) / "ray-gcs",
            dashboard_host=dashboard.hostname,
            dashboard_port=dashboard.port,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RayWorker:
    """A node that runs replicas."""

    node: RayNode
    head: str
    """``host:port`` of the head's GCS."""
    labels: Mapping[str, str]
    """By which slots find this node."""

    @classmethod
    def from_environment(cls, given: Mapping[str, str]) -> Self:
        """Raises ``SettingInvalid``."""
        _demand(given, "ROADSTEAD_RAY_HEAD", "ROADSTEAD_NODE", "ROADSTEAD_STORE", "ROADSTEAD_REPLICA_TOKEN_FILE")
        head = given["ROADSTEAD_RAY_HEAD"]
        host, _, port = head.rpartition(":")
        if not host or not port.isdigit():
            raise SettingInvalid(f"ROADSTEAD_RAY_HEAD is host:port, not {head}")
        image = image_label(given.get("ROADSTEAD_ENGINE_IMAGE", ""))
        return cls(
            node=RayNode.from_environment(given),
            head=head,
            labels={NODE_LABEL: given["ROADSTEAD_NODE"]} | ({IMAGE_LABEL: image} if image else {}),
        )


def _demand(given: Mapping[str, str], *names: str) -> None:
    missing = [name for name in names if not given.get(name)]
    if missing:
        raise SettingInvalid(f"a Ray node needs {', '.join(missing)} in its environment")


def _ports(text: str) -> dict[str, int]:
    """``name=port`` by commas: only several Ray nodes on one machine need other ports than the usual ones."""
    found = {}
    for word in filter(None, text.split(",")):
        name, _, port = word.partition("=")
        if name not in PORTS or not port.isdigit():
            raise SettingInvalid(f"ROADSTEAD_RAY_PORTS is name=port,…, not {word}; names are {', '.join(PORTS)}")
        found[name] = int(port)
    return found
