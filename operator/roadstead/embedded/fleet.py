"""The whole fleet as a list of processes: what runs, in which order, told by which environment variables.

This is the one place that knows every part. Each of ours is the same command that a cluster runs; only the variables
differ, and they are named once, here.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from roadstead.embedded import control_plane, postgres
from roadstead.embedded.binaries import Binaries
from roadstead.embedded.certificates import ensure_certificates, write_kubeconfig
from roadstead.embedded.cluster_objects import NAMESPACE
from roadstead.embedded.control_plane import ControlPlane
from roadstead.embedded.example_model import example_source_root
from roadstead.embedded.files import keep_token, write_atomically, write_once
from roadstead.embedded.home import Home
from roadstead.embedded.ports import PortWish
from roadstead.embedded.postgres import Postgres
from roadstead.embedded.processes import ProcessSpec
from roadstead.embedded.ray_cell import LoopbackNetwork, RayCell, RayNode, ray_ports
from roadstead.embedded.readiness import accepts, answers

HOST = "127.0.0.1"
CELL = "cell-0"
GATEWAY = "gateway-0"
BUDGETS: Mapping[str, int] = {"node-a": 1024 << 20, "node-b": 640 << 20}
"""Memory in bytes of each node, so that they differ; a person may edit the file that comes of it."""
NODES = tuple(BUDGETS)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The paths and ports of one home, and the processes that they make."""

    home: Home
    ports: Mapping[str, int]
    binaries: Binaries
    durable: bool = True

    @property
    def network(self) -> LoopbackNetwork:
        return LoopbackNetwork.of(self.home)

    @property
    def gateway_url(self) -> str:
        return f"http://{HOST}:{self.ports['gateway']}"

    @property
    def read_api_url(self) -> str:
        return f"http://{HOST}:{self.ports['operator-api']}"

    @property
    def database_url(self) -> str:
        return os.environ.get("ROADSTEAD_DATABASE_URL") or self._postgres().database_url

    @property
    def api_key(self) -> str:
        """The client key that `.roadstead/env` exports."""
        return keep_token(self.home.secrets / "api.key")

    def agent_name(self, node: str) -> str:
        return f"{node}-agent"

    def write_files(self) -> None:
        """Everything the processes read; what exists and may have been edited is kept."""
        home = self.home
        home.create()
        certificates = ensure_certificates(home.secrets, now=datetime.datetime.now(datetime.UTC))
        plane = self._control_plane()
        plane.write_audit_policy()
        write_kubeconfig(home.kubeconfig, server_url=plane.server_url, certificates=certificates)
        for name in ("door.token", "replica.token", "ray.token", "api.token", "postgres.password"):
            keep_token(home.secrets / name)
        write_atomically(home.root / "keys", hashlib.sha256(self.api_key.encode()).hexdigest() + "\n")
        write_atomically(home.directory_file, json.dumps(self.directory(), indent=2) + "\n")
        cores = os.cpu_count() or 1
        for node, memory in BUDGETS.items():
            write_once(self._budget(node), json.dumps({"memory_bytes": memory, "cores": cores}, indent=2) + "\n")
            self._link_store(node)
        for name in (CELL, GATEWAY):
            (home.data / name).mkdir(mode=0o700, exist_ok=True)
        self._write_env()

    def directory(self) -> dict[str, list[dict[str, object]]]:
        """Where the operator finds the doors."""
        return {
            "agents": [{"node": node, "url": f"http://{HOST}:{self.ports[f'{node}-agent']}"} for node in NODES],
            "cells": [
                {
                    "name": CELL,
                    "url": f"http://{HOST}:{self.ports['head-agent']}",
                    "host": self.network.head,
                    "nodes": list(NODES),
                }
            ],
            "gateways": [{"name": GATEWAY, "internal_url": f"http://{HOST}:{self.ports['gateway-internal']}"}],
        }

    def specs(self, only: tuple[str, ...] = ()) -> tuple[ProcessSpec, ...]:
        """Every process; or those named in `only` with all they depend on."""
        cell = self._cell()
        agents = [self._node_agent(node) for node in NODES]
        raylets = [cell.raylet(node, depends_on=(self.agent_name(node.name),)) for node in cell.nodes]
        everything = (
            *self._control_plane().specs(),
            *([] if os.environ.get("ROADSTEAD_DATABASE_URL") else [self._postgres().spec()]),
            self._migrations(),
            self._cluster_objects(),
            cell.head(),
            *agents,
            *raylets,
            self._head_agent(cell),
            self._operator(),
            self._gateway(),
        )
        return _with_dependencies(everything, only) if only else everything

    # ── ours ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _common(self) -> dict[str, str]:
        return {
            "ROADSTEAD_DOOR_TOKEN_FILE": str(self.home.secrets / "door.token"),
            "ROADSTEAD_REPLICA_TOKEN_FILE": str(self.home.secrets / "replica.token"),
            "ROADSTEAD_LOG_LEVEL": os.environ.get("ROADSTEAD_LOG_LEVEL", "info"),
            "PYTHONUNBUFFERED": "1",
        }

    def _node_env(self, node: str) -> dict[str, str]:
        return {**self._common(), "ROADSTEAD_NODE": node, "ROADSTEAD_STORE": str(self.home.store(node))}

    def _node_agent(self, node: str) -> ProcessSpec:
        port = self.ports[f"{node}-agent"]
        return ProcessSpec(
            name=self.agent_name(node),
            command=(sys.executable, "-m", "roadstead_worker.agent", "node"),
            env={
                **self._node_env(node),
                "ROADSTEAD_LISTEN": f"{HOST}:{port}",
                "ROADSTEAD_BUDGET_FILE": str(self._budget(node)),
                "ROADSTEAD_SOURCE_ROOTS": self._source_roots(),
                "ROADSTEAD_HTTP_HOSTS": os.environ.get("ROADSTEAD_HTTP_HOSTS", "127.0.0.1,localhost"),
            },
            ready=accepts(HOST, port),
        )

    def _head_agent(self, cell: RayCell) -> ProcessSpec:
        port = self.ports["head-agent"]
        return ProcessSpec(
            name="head-agent",
            command=(sys.executable, "-m", "roadstead_worker.agent", "head"),
            env={
                **self._common(),
                "ROADSTEAD_CELL": CELL,
                "ROADSTEAD_LISTEN": f"{HOST}:{port}",
                "ROADSTEAD_RAY_DASHBOARD": cell.dashboard_url,
                "ROADSTEAD_RAY_TOKEN_FILE": str(cell.token_file),
                "ROADSTEAD_STATE_DIR": str(self.home.data / CELL),
                # Serve fixes both at its first start: replicas listen on the head's address, the proxy on a free port.
                "ROADSTEAD_REPLICA_HOST": self.network.head,
                "ROADSTEAD_SERVE_PORT": str(self.ports["ray-serve"]),
            },
            ready=accepts(HOST, port),
        )

    def _migrations(self) -> ProcessSpec:
        external = bool(os.environ.get("ROADSTEAD_DATABASE_URL"))
        return ProcessSpec(
            name="migrations",
            command=(sys.executable, "-m", "roadstead_migrations", "upgrade"),
            env={**self._common(), "ROADSTEAD_DATABASE_URL": self.database_url},
            depends_on=() if external else ("postgres",),
            one_shot=True,
            ready_within_seconds=120,
        )

    def _cluster_objects(self) -> ProcessSpec:
        nodes = [f"{node}={self.network.node(index)}" for index, node in enumerate(NODES)]
        return ProcessSpec(
            name="cluster-objects",
            command=(sys.executable, "-m", "roadstead.embedded.cluster_objects", str(self.home.kubeconfig), *nodes),
            depends_on=("kube-apiserver",),
            one_shot=True,
        )

    def _operator(self) -> ProcessSpec:
        port = self.ports["operator"]
        return ProcessSpec(
            name="operator",
            command=(sys.executable, "-m", "roadstead.runtime"),
            env={
                **self._common(),
                "KUBECONFIG": str(self.home.kubeconfig),
                "ROADSTEAD_DATABASE_URL": self.database_url,
                "ROADSTEAD_DIRECTORY_FILE": str(self.home.directory_file),
                "ROADSTEAD_NAMESPACE": NAMESPACE,
                # There is one operator, and its supervisor starts no second one before the first has ended: it need not
                # wait until its own Lease has expired.
                "ROADSTEAD_IDENTITY": f"operator-{self.home.identity}",
                "ROADSTEAD_LISTEN": f"{HOST}:{port}",
                "ROADSTEAD_API_LISTEN": f"{HOST}:{self.ports['operator-api']}",
                "ROADSTEAD_API_TOKEN_FILE": str(self.home.api_token_file),
                "ROADSTEAD_GATEWAY_URL": f"{self.gateway_url}/v1",
            },
            depends_on=("kube-controller-manager", "cluster-objects", "migrations"),
            ready=accepts(HOST, port),
            stop_within_seconds=20,
        )

    def _gateway(self) -> ProcessSpec:
        return ProcessSpec(
            name="gateway",
            command=(sys.executable, "-m", "roadstead_gateway"),
            env={
                **self._common(),
                "KUBECONFIG": str(self.home.kubeconfig),
                "ROADSTEAD_NAMESPACE": NAMESPACE,
                "ROADSTEAD_LISTEN": f"{HOST}:{self.ports['gateway']}",
                "ROADSTEAD_INTERNAL_LISTEN": f"{HOST}:{self.ports['gateway-internal']}",
                "ROADSTEAD_KEYS_FILE": str(self.home.root / "keys"),
                "ROADSTEAD_STATE_DIR": str(self.home.data / GATEWAY),
                "ROADSTEAD_DRAIN_SECONDS": "15",
            },
            depends_on=("cluster-objects",),
            # Any answer of its own will do: without a key `/v1/models` is 401.
            ready=answers(f"{self.gateway_url}/v1/models", below=500),
            stop_within_seconds=20,
        )

    # ── theirs ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _control_plane(self) -> ControlPlane:
        home = self.home
        return ControlPlane(
            binaries=self.binaries,
            certificates=ensure_certificates(home.secrets, now=datetime.datetime.now(datetime.UTC)),
            ports=self.ports,
            data=home.data,
            kubeconfig=home.kubeconfig,
            audit_log=home.logs / "audit.log",
            durable=self.durable,
        )

    def _postgres(self) -> Postgres:
        return Postgres(
            data=self.home.data / "postgres",
            port=self.ports["postgres"],
            password_file=self.home.secrets / "postgres.password",
            durable=self.durable,
        )

    def _cell(self) -> RayCell:
        network = self.network
        return RayCell(
            home=self.home,
            network=network,
            ports=self.ports,
            token_file=self.home.secrets / "ray.token",
            nodes=tuple(RayNode(node, network.node(index), self._node_env(node)) for index, node in enumerate(NODES)),
            head_env=self._common(),
        )

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _budget(self, node: str) -> Path:
        return self.home.root / f"budget-{node}.json"

    def _link_store(self, node: str) -> None:
        """The agent's socket lives in its store, so the store needs a short name, and its content a lasting place."""
        target = self.home.data / f"store-{node}"
        target.mkdir(mode=0o700, exist_ok=True)
        link = self.home.store(node)
        if not (link.is_symlink() and link.readlink() == target):
            link.unlink(missing_ok=True)
            link.symlink_to(target)

    def _source_roots(self) -> str:
        """Where `file://` may point: the home's `models`, the example's wheel, and what the person adds."""
        models = self.home.root / "models"
        models.mkdir(exist_ok=True)
        example = example_source_root()
        roots = [str(models), *([str(example)] if example else [])]
        added = os.environ.get("ROADSTEAD_SOURCE_ROOTS")
        return ":".join([*roots, *([added] if added else [])])

    def _write_env(self) -> None:
        path = f"{self.binaries.directory}:{Path(sys.executable).parent}"
        lines = [
            "# Sourced by a shell: . .roadstead/env",
            f"export KUBECONFIG='{self.home.kubeconfig}'",
            f"export PATH='{path}':\"$PATH\"",
            f"export ROADSTEAD_HOME='{self.home.root}'",
            f"export ROADSTEAD_URL='{self.gateway_url}'",
            f"export ROADSTEAD_API_KEY='{self.api_key}'",
            f"export ROADSTEAD_API='{self.read_api_url}'",
            f"export ROADSTEAD_API_TOKEN_FILE='{self.home.api_token_file}'",
        ]
        write_atomically(self.home.env_file, "\n".join(lines) + "\n")


def port_wishes(home: Home) -> tuple[PortWish, ...]:
    """Every port of a fleet."""
    ours = (
        "operator",
        "operator-api",
        "gateway",
        "gateway-internal",
        "head-agent",
        *(f"{node}-agent" for node in NODES),
    )
    return (
        *control_plane.PORTS,
        *postgres.PORTS,
        *(PortWish(name) for name in ours),
        *ray_ports(LoopbackNetwork.of(home), NODES),
    )


def fingerprint(specs: tuple[ProcessSpec, ...]) -> str:
    """Changes when a command or a variable of ours does: then a running fleet is not the one that is asked for."""
    rows = [[spec.name, list(spec.command), sorted(spec.env.items())] for spec in specs]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _with_dependencies(specs: tuple[ProcessSpec, ...], only: tuple[str, ...]) -> tuple[ProcessSpec, ...]:
    by_name = {spec.name: spec for spec in specs}
    unknown = set(only) - set(by_name)
    if unknown:
        raise ValueError(f"no process is named {', '.join(sorted(unknown))}; there are {', '.join(by_name)}")
    wanted: set[str] = set()
    pending = list(only)
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending += by_name[name].depends_on
    return tuple(spec for spec in specs if spec.name in wanted)
