"""The fleet as data: every process knows its doors, its tokens and what it waits for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roadstead.embedded.binaries import Binaries
from roadstead.embedded.fleet import BUDGETS, NODES, Fleet, fingerprint, port_wishes
from roadstead.embedded.home import Home
from roadstead.embedded.processes import ProcessSpec, start_levels


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("ROADSTEAD_RUNTIME", str(tmp_path / "run"))
    monkeypatch.delenv("ROADSTEAD_DATABASE_URL", raising=False)
    home = Home.of(tmp_path / "home")
    ports = {wish.name: 20_000 + 400 * index for index, wish in enumerate(port_wishes(home))}
    made = Fleet(home, ports, Binaries(tmp_path / "bin"))
    home.create()
    made.write_files()
    return made


def named(fleet: Fleet, name: str) -> ProcessSpec:
    return next(spec for spec in fleet.specs() if spec.name == name)


def test_every_process_of_the_design_is_there_and_can_be_ordered(fleet: Fleet) -> None:
    names = [spec.name for level in start_levels(fleet.specs()) for spec in level]
    assert set(names) == {
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "postgres",
        "migrations",
        "cluster-objects",
        "ray-head",
        "head-agent",
        "node-a-agent",
        "node-a-raylet",
        "node-b-agent",
        "node-b-raylet",
        "operator",
        "gateway",
    }
    assert names.index("migrations") < names.index("operator")


def test_a_part_is_started_with_what_it_needs_and_nothing_else(fleet: Fleet) -> None:
    assert [spec.name for spec in fleet.specs(("kube-apiserver",))] == ["etcd", "kube-apiserver"]
    with pytest.raises(ValueError, match="no process is named ghost"):
        fleet.specs(("ghost",))


def test_a_database_of_ones_own_replaces_postgres(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADSTEAD_DATABASE_URL", "postgresql+psycopg://elsewhere/db")
    assert "postgres" not in {spec.name for spec in fleet.specs()}
    assert named(fleet, "operator").env["ROADSTEAD_DATABASE_URL"] == "postgresql+psycopg://elsewhere/db"


def test_a_replica_finds_the_agent_of_its_own_node(fleet: Fleet) -> None:
    for node in NODES:
        agent, raylet = named(fleet, f"{node}-agent"), named(fleet, f"{node}-raylet")
        for variable in ("ROADSTEAD_NODE", "ROADSTEAD_STORE", "ROADSTEAD_REPLICA_TOKEN_FILE"):
            assert agent.env[variable] == raylet.env[variable]
        assert raylet.env["ROADSTEAD_NODE"] == node


def test_only_agents_gateways_and_the_operator_see_what_they_must(fleet: Fleet) -> None:
    assert "ROADSTEAD_DATABASE_URL" not in named(fleet, "gateway").env
    assert "KUBECONFIG" not in named(fleet, "node-a-agent").env
    assert not any("RAY_AUTH" in variable for variable in named(fleet, "operator").env)


def test_each_ray_node_has_an_address_and_ports_of_its_own(fleet: Fleet) -> None:
    environments = [named(fleet, name).env for name in ("ray-head", "node-a-raylet", "node-b-raylet")]
    assert len({environment["ROADSTEAD_POD_IP"] for environment in environments}) == 3
    assert "127.0.0.1" not in {environment["ROADSTEAD_POD_IP"] for environment in environments}
    ports = [word.partition("=")[2] for each in environments for word in each["ROADSTEAD_RAY_PORTS"].split(",")]
    assert len(set(ports)) == len(ports)


def test_sockets_fit_into_the_kernels_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROADSTEAD_RUNTIME", raising=False)
    home = Home.of(Path("/somewhere") / ("deep" * 30))
    session = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1"
    assert len(f"{home.runtime}/ray/node-a/{session}") <= 107


def test_nodes_differ_and_an_edited_budget_is_kept(fleet: Fleet) -> None:
    assert len(set(BUDGETS.values())) == len(BUDGETS)
    budget = fleet.home.root / "budget-node-a.json"
    budget.write_text('{"memory_bytes": 1, "cores": 1}')
    fleet.write_files()
    assert json.loads(budget.read_text())["memory_bytes"] == 1


def test_secrets_are_private_and_kept(fleet: Fleet) -> None:
    before = {path.name: path.read_text() for path in fleet.home.secrets.iterdir()}
    fleet.write_files()
    assert {path.name: path.read_text() for path in fleet.home.secrets.iterdir()} == before
    assert {path.stat().st_mode & 0o077 for path in fleet.home.secrets.iterdir()} == {0}
    assert fleet.api_key not in (fleet.home.root / "keys").read_text()


def test_the_directory_names_every_door_once(fleet: Fleet) -> None:
    directory = json.loads(fleet.home.directory_file.read_text())
    assert [row["node"] for row in directory["agents"]] == list(NODES)
    assert directory["cells"][0]["nodes"] == list(NODES)
    assert directory["cells"][0]["host"] == fleet.network.head


def test_a_changed_variable_makes_another_fleet(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(fleet.specs())
    assert fingerprint(fleet.specs()) == before
    monkeypatch.setenv("ROADSTEAD_LOG_LEVEL", "debug")
    assert fingerprint(fleet.specs()) != before
