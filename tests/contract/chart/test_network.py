"""Who reaches whom: exactly the edges of the reference's table of ports, and no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.chart.conftest import VALUES, Helm, Object, of_kind
from tests.contract.chart.network import Party, may_connect

pytestmark = pytest.mark.contract

PORTS = (6379, 7441, 7442, 8080, 8081, 8090, 8091, 8265, 5432, 10001, 30000, 30500, 31000, 44217, 52365)
API_SERVER = Party("API server", {}, ours=False, address="192.0.2.10")
STRANGER = Party("stranger", {"app": "notebook"}, ours=False)
NEIGHBOUR = Party("neighbour", {"app": "notebook"})
"""A Pod in our own namespace that is none of ours."""
INTERNET = Party("internet", {}, ours=False, address="203.0.113.9")
METADATA = Party("metadata", {}, ours=False, address="169.254.169.254")


def party(component: str, *, cell: str = "", release: str = "roadstead") -> Party:
    labels = {
        "app.kubernetes.io/name": "roadstead",
        "app.kubernetes.io/instance": release,
        "app.kubernetes.io/component": component,
    }
    return Party(f"{component} {cell}".strip(), labels | ({"roadstead.dev/cell": cell} if cell else {}))


IMPOSTOR = replace(party("operator"), name="impostor", ours=False)
OURS = (
    party("operator"),
    party("gateway"),
    party("head", cell="cell-0"),
    party("head", cell="cell-1"),
    party("worker", cell="cell-0"),
    party("worker", cell="cell-1"),
    party("agent", cell="cell-0"),
    party("postgres"),
    party("uninstall"),
    party("crds"),
    party("test"),
)
RAY = {("head", "worker"), ("worker", "head"), ("worker", "worker"), ("head", "head")}
EDGES = {
    ("operator", "agent"): {7441},
    ("operator", "head"): {7442},
    ("operator", "gateway"): {8081},
    ("operator", "postgres"): {5432},
    ("uninstall", "head"): {7442},
    ("uninstall", "gateway"): {8081},
    ("gateway", "worker"): {30000, 30500, 31000},
    ("test", "gateway"): {8080},
}


@pytest.fixture(scope="module")
def policies(helm: Helm) -> list[Object]:
    return of_kind(helm.rendered(VALUES / "right" / "two-cells.yaml"), "NetworkPolicy")


@pytest.mark.parametrize("source", OURS, ids=lambda each: each.name)
@pytest.mark.parametrize("target", OURS, ids=lambda each: each.name)
def test_within_the_fleet_there_are_the_edges_of_the_reference_and_no_other(
    source: Party, target: Party, policies: list[Object]
) -> None:
    kinds = (source.name.split()[0], target.name.split()[0])
    one_cell = source.labels.get("roadstead.dev/cell") == target.labels.get("roadstead.dev/cell")
    wanted = set(PORTS) if kinds in RAY and one_cell else EDGES.get(kinds, set())

    found = {port for port in PORTS if may_connect(policies, source, target, port)}
    if source.name == "agent cell-0":  # it fetches from anywhere, so only who is called can refuse it
        found -= {8080, 8091}

    assert found == wanted


@pytest.mark.parametrize("source", [STRANGER, IMPOSTOR, NEIGHBOUR], ids=lambda each: each.name)
@pytest.mark.parametrize("target", OURS, ids=lambda each: each.name)
def test_a_pod_that_is_none_of_ours_reaches_clients_doors_only(
    source: Party, target: Party, policies: list[Object]
) -> None:
    """The gateway demands a client key, the read API its token: it is open because API servers have no labels."""
    wanted = {"gateway": {8080}, "operator": {8091}}.get(target.name, set())

    assert {port for port in PORTS if may_connect(policies, source, target, port)} == wanted


@pytest.mark.parametrize("source", OURS, ids=lambda each: each.name)
def test_only_agents_reach_out_of_the_cluster(source: Party, policies: list[Object]) -> None:
    reaches = {port for port in (80, 8000) if may_connect(policies, source, INTERNET, port)}

    assert reaches == ({80, 8000} if source.name.startswith("agent") else set())


@pytest.mark.parametrize("source", OURS, ids=lambda each: each.name)
def test_nobody_reaches_where_clouds_keep_credentials(source: Party, policies: list[Object]) -> None:
    assert not may_connect(policies, source, METADATA, 80)


@pytest.mark.parametrize("source", OURS, ids=lambda each: each.name)
def test_what_calls_the_api_server_reaches_it(source: Party, policies: list[Object]) -> None:
    calls = {"operator", "gateway", "uninstall", "crds", "agent cell-0"}

    assert may_connect(policies, source, API_SERVER, 6443) == (source.name in calls)


@pytest.mark.parametrize("source", OURS, ids=lambda each: each.name)
def test_names_are_asked_for_where_names_are_used(source: Party, policies: list[Object]) -> None:
    asks = may_connect(policies, source, Party("dns", {}, ours=False), 53, "UDP")

    assert asks == (source.name not in {"postgres", "crds"})


def test_narrowed_down_the_read_api_is_for_the_api_server_only(helm: Helm) -> None:
    narrow = helm.rendered(VALUES / "right" / "one-pool.yaml", sets=["networkPolicy.apiServer.cidrs={10.0.0.1/32}"])
    policies = of_kind(narrow, "NetworkPolicy")
    api_server = Party("API server", {}, ours=False, address="10.0.0.1")

    assert may_connect(policies, api_server, party("operator"), 8091)
    assert may_connect(policies, party("operator"), api_server, 6443)
    assert not may_connect(policies, STRANGER, party("operator"), 8091)
    assert not may_connect(policies, party("operator"), API_SERVER, 6443)


def test_narrowed_down_sources_are_reached_on_their_ports_only(helm: Helm) -> None:
    policies = of_kind(helm.rendered(VALUES / "right" / "a-narrow-network.yaml"), "NetworkPolicy")

    assert may_connect(policies, party("agent"), INTERNET, 8000)
    assert not may_connect(policies, party("agent"), INTERNET, 8001)


def test_two_releases_in_one_namespace_do_not_meet(policies: list[Object]) -> None:
    other = party("operator", release="other")

    assert not may_connect(policies, other, party("agent", cell="cell-0"), 7441)


def test_without_policies_everybody_would_reach_everything(helm: Helm) -> None:
    policies = of_kind(helm.rendered(VALUES / "right" / "no-network-policies.yaml"), "NetworkPolicy")

    assert policies == []
    assert may_connect(policies, STRANGER, party("head", cell="cell-0"), 6379)
