"""How Ray is started: what it is told, and by which variables that is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from roadstead_worker.ray.command import start_head, start_worker
from roadstead_worker.ray.settings import PORTS, RayHead, RayWorker, SettingInvalid

COMMON = {"ROADSTEAD_POD_IP": "10.1.2.3", "ROADSTEAD_RAY_TOKEN_FILE": "/etc/roadstead/tokens/ray.token"}
HEAD = {**COMMON, "ROADSTEAD_STATE_DIR": "/var/lib/roadstead"}
WORKER = {
    **COMMON,
    "ROADSTEAD_RAY_HEAD": "head.roadstead.svc:6379",
    "ROADSTEAD_NODE": "node-a",
    "ROADSTEAD_STORE": "/store",
    "ROADSTEAD_REPLICA_TOKEN_FILE": "/etc/roadstead/tokens/replica.token",
}
DIGITS = "0123456789abcdef" * 4


def test_a_head_keeps_its_store_on_the_volume_runs_no_replica_and_hides_its_dashboard() -> None:
    start = start_head(RayHead.from_environment(HEAD))
    assert {"--head", "--port=6379", "--num-cpus=0", "--node-ip-address=10.1.2.3"} <= set(start.command)
    assert {"--dashboard-host=127.0.0.1", "--dashboard-port=8265"} <= set(start.command)
    assert start.environment["RAY_gcs_storage"] == "rocksdb"
    assert start.environment["RAY_gcs_storage_path"] == "/var/lib/roadstead/ray-gcs"


def test_every_node_demands_the_token_and_outlives_an_absence_of_the_head() -> None:
    for start in (start_head(RayHead.from_environment(HEAD)), start_worker(RayWorker.from_environment(WORKER))):
        assert start.environment["RAY_AUTH_MODE"] == "token"
        assert start.environment["RAY_AUTH_TOKEN_PATH"] == "/etc/roadstead/tokens/ray.token"
        assert int(start.environment["RAY_gcs_rpc_server_reconnect_timeout_s"]) >= 600
        assert start.environment["RAY_USAGE_STATS_ENABLED"] == "0"
        assert "--dashboard-agent-listen-port=52365" in start.command, "the kubelet asks there"


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        (f"registry.lan/worker@sha256:{DIGITS}", "roadstead.dev/node=node-a,roadstead.dev/image=0123456789ab"),
        ("registry.lan/worker:1.0", "roadstead.dev/node=node-a"),
        ("", "roadstead.dev/node=node-a"),
    ],
)
def test_a_worker_joins_its_head_under_the_names_of_its_node_and_image(image: str, labels: str) -> None:
    start = start_worker(RayWorker.from_environment({**WORKER, "ROADSTEAD_ENGINE_IMAGE": image}))
    assert {"--address=head.roadstead.svc:6379", f"--labels={labels}"} <= set(start.command)
    assert "RAY_gcs_storage" not in start.environment


def test_several_nodes_on_one_machine_are_told_their_ports_and_folders() -> None:
    given = {**WORKER, "ROADSTEAD_RAY_PORTS": "min-worker=11000,max-worker=11399", "ROADSTEAD_RAY_FOLDER": "/run/a"}
    worker = RayWorker.from_environment(given)
    assert worker.node.ports == {**PORTS, "min-worker": 11000, "max-worker": 11399}
    assert worker.node.folder == Path("/run/a")
    assert {"--min-worker-port=11000", "--temp-dir=/run/a"} <= set(start_worker(worker).command)


def test_no_fixed_port_is_one_that_the_kernel_or_serve_may_give_to_somebody_else() -> None:
    single = {name: port for name, port in PORTS.items() if name not in {"min-worker", "max-worker"}}
    assert len(set(single.values())) == len(single)
    assert not any(PORTS["min-worker"] <= port <= PORTS["max-worker"] for port in single.values())
    assert not any(30_000 <= port <= 31_000 for port in single.values())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ROADSTEAD_POD_IP", ""),
        ("ROADSTEAD_RAY_TOKEN_FILE", ""),
        ("ROADSTEAD_RAY_HEAD", ""),
        ("ROADSTEAD_RAY_HEAD", "head"),
        ("ROADSTEAD_NODE", ""),
        ("ROADSTEAD_STORE", ""),
        ("ROADSTEAD_REPLICA_TOKEN_FILE", ""),
        ("ROADSTEAD_RAY_PORTS", "ghost=1"),
        ("ROADSTEAD_RAY_PORTS", "gcs"),
    ],
)
def test_a_missing_or_wrong_variable_of_a_worker_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingInvalid, match=variable):
        RayWorker.from_environment({**WORKER, variable: value})


@pytest.mark.parametrize(("variable", "value"), [("ROADSTEAD_STATE_DIR", ""), ("ROADSTEAD_RAY_DASHBOARD", "8265")])
def test_a_missing_or_wrong_variable_of_a_head_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingInvalid, match=variable):
        RayHead.from_environment({**HEAD, variable: value})
