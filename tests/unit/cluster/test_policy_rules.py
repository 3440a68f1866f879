"""NetworkPolicies of the test cluster become the rules that the specification asks for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.machine.policy_rules import World, meets, ruleset

SERVER = "10.244.1.2"
FRIEND = "10.244.2.2"
STRANGER = "10.244.2.3"


def pod(name: str, address: str, node: str, *, namespace: str = "home", **more: bool) -> dict[str, Any]:
    container = {"name": "main", "ports": [{"name": "http", "containerPort": 8080}]}
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [container], **more},
        "status": {"podIP": address, "phase": "Running"},
    }


PODS = (
    pod("server", SERVER, "node-a"),
    pod("friend", FRIEND, "node-b"),
    pod("friend", "10.244.2.9", "node-b", namespace="elsewhere"),
    pod("stranger", STRANGER, "node-b"),
)


def rules(spec: dict[str, Any], node: str = "node-a", pods: tuple[dict[str, Any], ...] = PODS) -> dict[str, list[str]]:
    """The lines of each chain."""
    policy = {"metadata": {"name": "policy", "namespace": "home"}, "spec": spec}
    namespaces = [{"metadata": {"name": name, "labels": {"name": name}}} for name in ("home", "elsewhere")]
    text = ruleset(World.of(policies=[policy], pods=pods, namespaces=namespaces), node)
    chains: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith("  chain "):
            current = chains.setdefault(line.split()[1], [])
        elif line.startswith("    "):
            current.append(line.strip())
    return chains


def ingress(rule: dict[str, Any]) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"], "ingress": [rule]}


def egress(rule: dict[str, Any]) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Egress"], "egress": [rule]}


IN, OUT = "ingress_10_244_1_2", "egress_10_244_1_2"
OWN_IN, OWN_OUT = f"ip saddr {SERVER} return", f"ip daddr {SERVER} return"


def test_a_selected_pod_without_rules_hears_nobody_but_itself() -> None:
    chains = rules({"podSelector": {}, "policyTypes": ["Ingress"]})
    assert chains[IN] == [OWN_IN, "drop"]
    assert f"ip daddr {SERVER} jump {IN}" in chains["forward"]
    assert OUT not in chains


def test_a_pod_that_no_policy_selects_is_not_isolated() -> None:
    chains = rules({"podSelector": {"matchLabels": {"app": "other"}}, "policyTypes": ["Ingress"]})
    assert set(chains) == {"forward", "input"}


def test_each_node_has_the_rules_of_its_own_pods_only() -> None:
    assert IN not in rules({"podSelector": {}, "policyTypes": ["Ingress"]}, node="node-b")


def test_what_leaves_a_pod_is_held_back_from_its_node_too() -> None:
    jump = f"ip saddr {SERVER} jump {OUT}"
    chains = rules({"podSelector": {}, "policyTypes": ["Egress"]})
    assert jump in chains["forward"]
    assert jump in chains["input"]


@pytest.mark.parametrize(
    ("spec", "chain", "allowed"),
    [
        (ingress({}), IN, ["return"]),
        (
            ingress({"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}),
            IN,
            [f"ip saddr {{ {FRIEND} }} return"],
        ),
        (
            ingress({"from": [{"namespaceSelector": {"matchLabels": {"name": "elsewhere"}}}]}),
            IN,
            ["ip saddr { 10.244.2.9 } return"],
        ),
        (
            ingress({"from": [{"podSelector": {"matchLabels": {"app": "nobody"}}}]}),
            IN,
            ["ip saddr 0.0.0.0 return"],
        ),
        (ingress({"ports": [{"port": "http"}]}), IN, ["tcp dport 8080 return"]),
        (ingress({"ports": [{"port": "unknown"}]}), IN, []),
        (ingress({"ports": [{"port": 1, "endPort": 9, "protocol": "UDP"}]}), IN, ["udp dport 1-9 return"]),
        (ingress({"ports": [{"protocol": "UDP"}]}), IN, ["meta l4proto udp return"]),
        (
            ingress({"from": [{"ipBlock": {"cidr": "10.0.0.9/8", "except": ["10.1.0.0/16"]}}], "ports": [{"port": 1}]}),
            IN,
            ["ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16 } tcp dport 1 return"],
        ),
        (ingress({"from": [{"ipBlock": {"cidr": "::/0"}}]}), IN, ["ip saddr 0.0.0.0 return"]),
        (
            egress({"to": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": "http"}]}),
            OUT,
            [f"ip daddr {FRIEND} tcp dport 8080 return"],
        ),
    ],
)
def test_a_rule_allows_its_peers_on_its_ports(spec: dict[str, Any], chain: str, allowed: list[str]) -> None:
    own = OWN_IN if chain == IN else OWN_OUT
    assert rules(spec)[chain] == [own, *allowed, "drop"]


def test_pods_of_the_host_network_and_finished_ones_do_not_count() -> None:
    host = pod("friend", "10.10.0.3", "node-b", hostNetwork=True)
    finished = pod("friend", "10.244.2.7", "node-b")
    finished["status"]["phase"] = "Succeeded"
    spec = ingress({"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]})
    assert rules(spec, pods=(PODS[0], host, finished))[IN] == [OWN_IN, "ip saddr 0.0.0.0 return", "drop"]


@pytest.mark.parametrize(
    ("operator", "values", "met"),
    [
        ("In", ["x", "y"], True),
        ("In", ["y"], False),
        ("NotIn", ["y"], True),
        ("NotIn", ["x"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
    ],
)
def test_requirements_of_a_selector(operator: str, values: list[str], met: bool) -> None:
    requirement = {"key": "a", "operator": operator, "values": values}
    assert meets({"matchExpressions": [requirement]}, {"a": "x"}) is met
