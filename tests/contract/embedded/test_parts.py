"""Real parts: the API server and Postgres start, keep their data, and take their ports back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator

import psycopg
import pytest

from roadstead.embedded.binaries import Binaries, find_binaries
from roadstead.embedded.cluster_objects import apply_all
from roadstead.embedded.home import Home
from roadstead.embedded.kube_door import KubeDoor, open_door
from roadstead.embedded.node_heartbeat import node_path
from roadstead.embedded.processes import ProcessState
from roadstead.embedded.progress import Progress
from roadstead.embedded.running import (
    Started,
    control_plane,
    end_fleet,
    postgres_server,
    read_ports,
    start_supervisor,
    wait_until_settled,
)
from roadstead.embedded.state import read_state
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract
RESTARTED = "/api/v1/namespaces/default/configmaps/survivor"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home.of(tmp_path_factory.mktemp("embedded"))


@pytest.fixture
async def door(home: Home) -> AsyncIterator[KubeDoor]:
    with control_plane(home.root) as kubeconfig:
        async with open_door(kubeconfig) as opened:
            yield opened


async def test_what_the_operator_needs_can_be_applied_twice_and_is_audited(home: Home, door: KubeDoor) -> None:
    for _ in range(2):
        await apply_all(door, {"node-a": "127.0.0.2"})
    node = await door.get(node_path("node-a"))
    assert node is not None
    assert node["metadata"]["labels"]["roadstead.dev/pool"] == "local"
    assert await door.get("/apis/roadstead.dev/v1alpha1/workerpools/local") is not None
    audit = [json.loads(line) for line in (home.logs / "audit.log").read_text().splitlines()]
    ours = [row for row in audit if row["user"]["username"] == "admin"]
    assert {row["verb"] for row in ours} == {"patch"}
    assert all("requestObject" not in row for row in ours)
    await door.apply(RESTARTED, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "survivor"}})


async def test_data_survive_a_restart_of_the_control_plane(door: KubeDoor) -> None:
    assert await door.get(RESTARTED) is not None


def test_the_built_kubectl_speaks_to_it_and_nothing_is_left_after_the_block(home: Home) -> None:
    binaries = find_binaries(Progress())
    assert isinstance(binaries, Binaries)
    with control_plane(home.root) as kubeconfig:
        said = subprocess.run(
            [binaries.kubectl, f"--kubeconfig={kubeconfig}", "get", "--raw=/readyz"], capture_output=True, check=True
        )
        assert said.stdout == b"ok"
        state = read_state(home.state_file)
        assert state is not None
    assert not any(row.identity.alive() for row in state.processes if row.identity)
    assert not home.runtime.exists()


def test_postgres_keeps_its_data_over_a_restart(home: Home) -> None:
    for expected in ([], [(1,)]):
        with (
            postgres_server(home.root) as url,
            psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as database,
        ):
            database.execute("create table if not exists kept (id int)")
            assert database.execute("select id from kept").fetchall() == expected
            database.execute("insert into kept values (1)")


def test_postgres_demands_its_password(home: Home) -> None:
    with postgres_server(home.root) as url:
        server, _, rest = url.replace("+psycopg", "").rpartition("@")
        user = server.rpartition(":")[0]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(f"{user}:guessed@{rest}")


async def test_a_killed_etcd_is_back_and_the_api_server_stays(home: Home) -> None:
    process = start_supervisor(home, only=("kube-apiserver",), throwaway=True, bound=True)
    try:
        before = wait_until_settled(Started(home, process), deadline_seconds=60)
        etcd, api = before.process("etcd"), before.process("kube-apiserver")
        assert etcd is not None
        assert api is not None
        assert etcd.identity is not None
        os.kill(etcd.identity.pid, signal.SIGKILL)

        def back() -> bool:
            now = read_state(home.state_file)
            row = now.process("etcd") if now else None
            return row is not None and row.state is ProcessState.READY and row.identity != etcd.identity

        await until(back, "another etcd is ready", seconds=20)
        now = read_state(home.state_file)
        assert now is not None
        assert now.process("kube-apiserver") == api
        async with open_door(home.kubeconfig) as opened:
            assert await opened.get(RESTARTED) is not None
    finally:
        end_fleet(home)
        process.wait(20)


def test_a_port_that_a_stranger_took_moves_with_a_sentence_and_the_start_succeeds(home: Home) -> None:
    taken = read_ports(home)["postgres"]
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", taken))
        stranger.listen()
        with postgres_server(home.root) as url:
            assert f":{taken}/" not in url
            state = read_state(home.state_file)
    assert state is not None
    assert any(f"port {taken} of postgres is taken" in note for note in state.notes)


def test_a_second_supervisor_of_the_same_home_is_refused(home: Home) -> None:
    with postgres_server(home.root):
        second = start_supervisor(home, only=("postgres",), throwaway=True, bound=True)
        assert second.wait(20) == 1
    assert "AlreadyRunning" in home.log("supervisor").read_text()
