"""Doors are found by Pods: each under the name it is known by, and no longer than its Pod may answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from roadstead.adapters.directory import AgentDoor, CellDoor, GatewayDoor
from roadstead.adapters.kube.owned import Pod
from roadstead.adapters.pod_directory import PodDirectory

NOW = datetime(2026, 11, 1, 10, tzinfo=UTC)
HEAD = "roadstead-head-cell-0.roadstead.svc:6379"


def a_pod(component: str, ip: str, *, name: str = "", node: str = "node-a", cell: str = "") -> Pod:
    return Pod(
        name=name or f"{component}-{ip}",
        uid="u",
        component=component,
        cell=cell,
        pool="",
        node=node,
        image="",
        template="",
        ip=ip,
        ready=False,
        finished=False,
        deleted_by=None,
    )


class Cluster:
    def __init__(self, *pods: Pod) -> None:
        self.pods: tuple[Pod, ...] = pods
        self.nodes = {"node-a", "node-b"}
        self.now = NOW
        self.directory = PodDirectory(
            pods=lambda: self.pods, nodes=lambda: self.nodes, cells=[("cell-0", HEAD)], clock=lambda: self.now
        )


def test_each_component_is_listed_under_its_own_name() -> None:
    listing = Cluster(
        a_pod("agent", "10.0.0.1", node="node-a"),
        a_pod("agent", "fd00::1", node="node-b"),
        a_pod("head", "10.0.0.3", cell="cell-0"),
        a_pod("worker", "10.0.0.4", node="node-b", cell="cell-0"),
        a_pod("worker", "10.0.0.5", node="node-a", cell="cell-1"),
        a_pod("gateway", "10.0.0.6", name="gateway-1"),
        a_pod("operator", "10.0.0.7"),
    ).directory.listing()

    assert listing.agents == {
        "node-a": AgentDoor(node="node-a", url="http://10.0.0.1:7441"),
        "node-b": AgentDoor(node="node-b", url="http://[fd00::1]:7441"),
    }
    assert listing.cells == {
        "cell-0": CellDoor(
            name="cell-0",
            url="http://10.0.0.3:7442",
            host="roadstead-head-cell-0.roadstead.svc",
            nodes=frozenset({"node-b"}),
        )
    }
    assert listing.gateways == {"gateway-1": GatewayDoor(name="gateway-1", url="http://10.0.0.6:8081")}


def test_a_cell_without_a_head_is_listed_without_an_address() -> None:
    assert Cluster().directory.listing().cells["cell-0"].url == ""


def test_an_agent_without_a_pod_stays_listed_for_as_long_as_its_node_is_there() -> None:
    cluster = Cluster(a_pod("agent", "10.0.0.1"))
    cluster.directory.listing()

    cluster.pods = ()
    assert cluster.directory.listing().agents == {"node-a": AgentDoor(node="node-a", url="")}

    cluster.pods = (a_pod("agent", "10.0.0.9"),)
    assert cluster.directory.listing().agents["node-a"].url == "http://10.0.0.9:7441"

    cluster.pods, cluster.nodes = (), {"node-b"}
    assert cluster.directory.listing().agents == {}


def test_a_pod_without_an_address_and_one_that_has_ended_have_no_door() -> None:
    ended = replace(a_pod("gateway", "10.0.0.1"), finished=True)

    assert Cluster(a_pod("gateway", ""), ended).directory.listing().gateways == {}


def test_a_pod_that_is_being_deleted_answers_until_its_time_is_over() -> None:
    """A gateway that drains still has requests under way; on a lost machine its Pod stays for ever."""
    cluster = Cluster(replace(a_pod("gateway", "10.0.0.1", name="old"), deleted_by=NOW + timedelta(seconds=60)))
    assert set(cluster.directory.listing().gateways) == {"old"}

    cluster.now = NOW + timedelta(seconds=91)
    assert cluster.directory.listing().gateways == {}


def test_a_pod_that_stays_wins_over_one_that_ends() -> None:
    ends = replace(a_pod("head", "10.0.0.1", name="z", cell="cell-0"), deleted_by=NOW)
    stays = a_pod("head", "10.0.0.2", name="a", cell="cell-0")

    for pods in ((ends, stays), (stays, ends)):
        assert Cluster(*pods).directory.listing().cells["cell-0"].url == "http://10.0.0.2:7442"
