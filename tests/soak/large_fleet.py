"""A fleet of thousands: a real API server, Postgres and operator, and simulated doors, all on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import yaml
from sqlalchemy.engine import URL

from roadstead.embedded import running
from roadstead.embedded.binaries import find_or_build_binaries
from roadstead.embedded.home import Home
from roadstead.embedded.progress import Progress
from roadstead_migrations import runner
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import as_libpq
from tests.simulation.operator_process import operator_environment
from tests.soak.audit_log import AuditLog

NAMESPACE: Final = "fleet"
_ACCOUNT: Final = "operator"
_CHECKOUT: Final = Path(__file__).parents[2]
_CHANGING: Final = ("create", "update", "patch", "delete")
_READY_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Used:
    """What the operator and its planner have used."""

    cpu_seconds: float
    resident_bytes: int


@dataclass(slots=True, kw_only=True)
class LargeFleet:
    """Everything is up; ``start`` brings the operator."""

    folder: Path
    kubectl: tuple[str, ...]
    audit_log: Path
    environment: dict[str, str]
    operator: psutil.Popen | None = None
    _audit: AuditLog = field(init=False)

    def __post_init__(self) -> None:
        self._audit = AuditLog(self.audit_log)

    def start(self) -> None:
        """Start the operator; it leads when it has read the lists."""
        with (self.folder / "operator.log").open("ab") as log:
            self.operator = psutil.Popen(
                [sys.executable, "-m", "roadstead.runtime"], env=self.environment, stderr=log, cwd=_CHECKOUT
            )

    def stop(self) -> None:
        """SIGTERM, and its end."""
        if self.operator is not None:
            self.operator.terminate()
            self.operator.wait(60)
            self.operator = None

    def used(self) -> Used:
        assert self.operator is not None
        cpu, resident = 0.0, 0
        for process in (self.operator, *self.operator.children(recursive=True)):
            times = process.cpu_times()
            cpu += times.user + times.system
            resident += process.memory_info().rss
        return Used(cpu, resident)

    def calls(self) -> Counter[tuple[str, str]]:
        """Verb and resource of the operator's mutating calls since the last time, by the API server's audit log."""
        found: Counter[tuple[str, str]] = Counter()
        for event in self._audit.since_last():
            mine = event["user"]["username"] == f"system:serviceaccount:{NAMESPACE}:{_ACCOUNT}"
            if mine and event["verb"] in _CHANGING and event["stage"] == "ResponseComplete":
                about = event["objectRef"]
                part = f"/{about['subresource']}" if "subresource" in about else ""
                found[event["verb"], f"{about['resource']}{part}"] += 1
        return found

    def until_quiet(self, *, seconds: float) -> Counter[tuple[str, str]]:
        """All calls until nothing but Leases was written for ``seconds``."""
        total: Counter[tuple[str, str]] = Counter()
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < seconds:
            time.sleep(1.0)
            found = self.calls()
            total += found
            if without_leases(found):
                quiet_since = time.monotonic()
            assert self.operator is not None
            assert self.operator.poll() is None, "the operator ended"
        return total

    def get(self, *arguments: str) -> Any:  # noqa: ANN401 - whatever kind it is
        return json.loads(self.run("get", "-n", NAMESPACE, *arguments, "-o", "json"))

    def run(self, *arguments: str) -> str:
        """As administrator."""
        return subprocess.run(
            [*self.kubectl, *arguments], check=True, capture_output=True, text=True, timeout=120
        ).stdout


def without_leases(calls: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """What is written although a fleet is at rest."""
    return Counter({call: count for call, count in calls.items() if call[1] != "leases"})


@contextmanager
def large_fleet(*, models: int, nodes: int, cells: int, postgres: URL) -> Iterator[LargeFleet]:
    """With all objects applied and all doors open, and no operator yet."""
    folder = Path(tempfile.mkdtemp(prefix="rs-soak-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        admin = stack.enter_context(running.control_plane(folder / "kube", controllers=True))
        runner.upgrade(postgres)
        kubectl = (str(find_or_build_binaries(Progress()).kubectl), f"--kubeconfig={admin}")
        fleet = LargeFleet(
            folder=folder,
            kubectl=kubectl,
            audit_log=Home.of(folder / "kube").logs / "audit.log",
            environment={
                **operator_environment(
                    kubeconfig=folder / "operator.kubeconfig",
                    namespace=NAMESPACE,
                    directory=folder / "doors.json",
                    door_token=folder / "door.token",
                    database_url=as_libpq(postgres),
                    installation="soak",
                ),
            },
        )
        fleet.run("apply", "--server-side", "-f", str(_CHECKOUT / "charts" / "roadstead" / "crds"))
        simulation = _simulation(fleet, admin, models=models, nodes=nodes, cells=cells)
        stack.callback(simulation.wait, 30)
        stack.callback(simulation.terminate)
        _until_doors_are_open(fleet, simulation)
        _until_nodes_are_welcome(fleet)
        _give_an_account(fleet, admin)
        stack.callback(fleet.stop)
        yield fleet


def _simulation(fleet: LargeFleet, admin: Path, *, models: int, nodes: int, cells: int) -> subprocess.Popen[bytes]:
    sizes = {"nodes": nodes, "cells": cells, "gateways": 2, "models": models}
    files = {
        "directory": fleet.folder / "doors.json",
        "token-file": fleet.folder / "door.token",
        "kubeconfig": admin,
        "namespace": NAMESPACE,
    }
    options = [f"--{name}={value}" for name, value in {**sizes, **files}.items()]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.simulation", "--make-nodes", "--heartbeats", *options],
        cwd=_CHECKOUT,
        env=os.environ,
    )


def _until_doors_are_open(fleet: LargeFleet, simulation: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not (fleet.folder / "doors.json").exists():
        assert simulation.poll() is None, "the simulation ended"
        assert time.monotonic() < deadline, "the simulation's doors did not open"
        time.sleep(0.2)


def _until_nodes_are_welcome(fleet: LargeFleet) -> None:
    """A new Node is tainted until its controller has seen it Ready: of a thousand, that takes minutes."""
    wait_until(
        lambda: not any(node["spec"].get("taints") for node in fleet.get("nodes")["items"]),
        "no Node is tainted",
        seconds=_READY_SECONDS,
        pause_seconds=5.0,
    )


def _give_an_account(fleet: LargeFleet, admin: Path) -> None:
    """The operator's own, by which the audit log tells its calls from the simulation's."""
    fleet.run("create", "serviceaccount", _ACCOUNT, "-n", NAMESPACE)
    subject = f"--serviceaccount={NAMESPACE}:{_ACCOUNT}"
    fleet.run("create", "clusterrolebinding", _ACCOUNT, "--clusterrole=cluster-admin", subject)
    token = fleet.run("create", "token", _ACCOUNT, "-n", NAMESPACE, "--duration=12h").strip()
    config = yaml.safe_load(admin.read_text())
    config["users"][0]["user"] = {"token": token}
    (fleet.folder / "operator.kubeconfig").write_text(yaml.safe_dump(config))
