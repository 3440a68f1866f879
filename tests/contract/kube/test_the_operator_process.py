"""The operator as a process, against a real API server and Postgres: it makes what a node needs, and ends clean."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from roadstead_migrations import runner
from tests.contract.kube.pool_objects import WORKLOADS, restricted, worker_pool
from tests.fixtures.control_plane import RunningControlPlane
from tests.fixtures.patience import until
from tests.fixtures.postgres import as_libpq, empty_database, postgres_server

__all__ = ["empty_database", "postgres_server"]

pytestmark = pytest.mark.contract


@pytest.fixture
def environment(plane: RunningControlPlane, namespace: str, empty_database: URL, tmp_path: Path) -> dict[str, str]:
    """As the chart gives it to an operator's Pod."""
    runner.upgrade(empty_database)
    restricted(plane, namespace)
    for name, content in (
        ("url", as_libpq(empty_database)),
        ("door.token", "token"),
        ("workloads.yaml", WORKLOADS.model_dump_json(by_alias=True)),
    ):
        (tmp_path / name).write_text(content)
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    return {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(plane.kubeconfig),
        "ROADSTEAD_NAMESPACE": namespace,
        "ROADSTEAD_WATCH_NAMESPACES": namespace,
        "ROADSTEAD_WORKLOADS_FILE": str(tmp_path / "workloads.yaml"),
        "ROADSTEAD_DATABASE_URL_FILE": str(tmp_path / "url"),
        "ROADSTEAD_DOOR_TOKEN_FILE": str(tmp_path / "door.token"),
        "ROADSTEAD_LISTEN": listen,
    }


@contextmanager
def running(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "roadstead.runtime"], env=environment, stderr=stderr)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def names(plane: RunningControlPlane, namespace: str, kind: str) -> set[str]:
    """Without the kind's own prefix."""
    found = plane.kubectl("get", kind, "-n", namespace, "-o", "name").split()
    return {name.rpartition("/")[2] for name in found}


async def test_an_operator_makes_what_a_node_needs_and_gives_the_lease_back_when_it_ends(
    plane: RunningControlPlane, environment: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    node = f"node-of-{namespace}"
    machine = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node, "labels": {"roadstead.dev/test": namespace}},
    }
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(machine))
    ready = json.dumps({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    plane.kubectl("patch", "node", node, "--subresource=status", "--type=merge", f"-p={ready}")
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(worker_pool(namespace)))
    log = tmp_path / "operator.log"

    with running(environment, log) as operator:
        await until(
            lambda: operator.poll() is not None or len(names(plane, namespace, "pods")) == 2,
            "an agent and a worker",
            seconds=60,
        )
        assert operator.poll() is None, log.read_text()
        agent, worker = sorted(names(plane, namespace, "pods"))
        assert agent == f"roadstead-agent-{node}"
        assert worker.startswith(f"roadstead-worker-{node}-")
        assert names(plane, namespace, "pvc") == {f"roadstead-weights-{node}"}
        assert f"roadstead-pool-{namespace}" in names(plane, namespace, "configmaps")
        await until(lambda: "0/1" in plane.kubectl("get", "wp", namespace), "the pool's status is told", seconds=20)
        lease = ("get", "lease", "roadstead-operator", "-n", namespace, "-o", "jsonpath={.spec.holderIdentity}")
        assert plane.kubectl(*lease)

        plane.kubectl("delete", "pod", agent, "-n", namespace)
        await until(lambda: agent in names(plane, namespace, "pods"), "what is deleted by hand comes back", seconds=20)

        operator.send_signal(signal.SIGTERM)
        await until(lambda: operator.poll() is not None, "it ends", seconds=40)

    assert operator.returncode == 0, log.read_text()
    assert plane.kubectl(*lease) == ""
    plane.kubectl("delete", "node", node)
    plane.kubectl("delete", "workerpool", namespace)


async def test_a_workloads_file_that_cannot_be_read_ends_the_process_with_its_name(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "workloads.yaml").write_text("release: roadstead\nimages: x\n")
    log = tmp_path / "operator.log"

    with running(environment, log) as operator:
        await until(lambda: operator.poll() is not None, "it ends", seconds=40)

    assert operator.returncode == 2
    assert f"{tmp_path / 'workloads.yaml'}: image is required" in log.read_text()
