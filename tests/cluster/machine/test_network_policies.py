"""Network policies are enforced on both nodes, for what comes in and for what goes out."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.machine.cluster import Cluster
from tests.cluster.pods import address, eventually, execute, pod, reaches, restricted_namespace, server, start

pytestmark = pytest.mark.cluster

HOME = "guarded"
ELSEWHERE = "elsewhere"
# Who may ask, and where it runs: beside the server and on the other node.
FRIENDS = ("friend-a", "friend-b")
STRANGERS = ("stranger-a", "stranger-b")


@pytest.fixture(scope="module")
def target(cluster: Cluster) -> Iterator[str]:
    """The address of a server, with friends and strangers around it."""
    with restricted_namespace(cluster, HOME), restricted_namespace(cluster, ELSEWHERE, kind="other"):
        clients = [pod(name, f"node-{name[-1]}", labels={"role": name[:-2]}) for name in (*FRIENDS, *STRANGERS)]
        start(cluster, HOME, server("server", "node-a"), *clients)
        start(cluster, ELSEWHERE, *(pod(name, f"node-{name[-1]}", labels={"role": "friend"}) for name in FRIENDS))
        yield address(cluster, HOME, "server")


@pytest.fixture(autouse=True)
def _no_policies_before(cluster: Cluster, target: str) -> Iterator[None]:
    yield
    cluster.kubectl("-n", HOME, "delete", "networkpolicies", "--all")
    assert eventually(lambda: all(reaches(cluster, HOME, name, f"{target}:8080") for name in STRANGERS))


def policy(cluster: Cluster, name: str, spec: dict[str, Any]) -> None:
    manifest = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}
    cluster.kubectl("-n", HOME, "create", "--filename=-", stdin=json.dumps(manifest))


def deny_all_ingress(cluster: Cluster, target: str) -> None:
    policy(cluster, "deny", {"podSelector": {}, "policyTypes": ["Ingress"]})
    assert eventually(lambda: not reaches(cluster, HOME, "stranger-b", f"{target}:8080"))


def to_server(*peers: dict[str, Any], port: int | str = 8080) -> dict[str, Any]:
    return {
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": list(peers), "ports": [{"port": port}]}],
    }


def test_default_deny_shuts_everyone_out_but_the_kubelet(cluster: Cluster, target: str) -> None:
    deny_all_ingress(cluster, target)
    for name in (*FRIENDS, *STRANGERS):
        assert not reaches(cluster, HOME, name, f"{target}:8080")
    assert not reaches(cluster, ELSEWHERE, "friend-b", f"{target}:8080")
    # The readiness probe asks every second and fails after three.
    start(cluster, HOME, server("late", "node-b"))
    said = cluster.kubectl("-n", HOME, "wait", "--for=condition=Ready=False", "pod/server", "--timeout=6s", check=False)
    assert "timed out" in said


def test_the_union_of_policies_lets_friends_of_the_namespace_in_on_the_named_port(
    cluster: Cluster, target: str
) -> None:
    deny_all_ingress(cluster, target)
    policy(cluster, "friends", to_server({"podSelector": {"matchLabels": {"role": "friend"}}}, port="http"))
    for name in FRIENDS:
        assert eventually(functools.partial(reaches, cluster, HOME, name, f"{target}:8080"))
        assert not reaches(cluster, HOME, name, f"{target}:8081"), "another port"
    for name in STRANGERS:
        assert not reaches(cluster, HOME, name, f"{target}:8080")
    assert not reaches(cluster, ELSEWHERE, "friend-b", f"{target}:8080"), "the same label in another namespace"


def test_a_namespace_selector_opens_to_another_namespace_only(cluster: Cluster, target: str) -> None:
    deny_all_ingress(cluster, target)
    policy(cluster, "other", to_server({"namespaceSelector": {"matchLabels": {"kind": "other"}}}))
    assert eventually(lambda: reaches(cluster, ELSEWHERE, "friend-b", f"{target}:8080"))
    assert not reaches(cluster, HOME, "friend-b", f"{target}:8080")


def test_an_address_block_has_its_exceptions(cluster: Cluster, target: str) -> None:
    deny_all_ingress(cluster, target)
    shut_out = f"{address(cluster, HOME, 'stranger-b')}/32"
    policy(cluster, "block", to_server({"ipBlock": {"cidr": "10.244.0.0/16", "except": [shut_out]}}))
    assert eventually(lambda: reaches(cluster, HOME, "friend-b", f"{target}:8080"))
    assert not reaches(cluster, HOME, "stranger-b", f"{target}:8080")


@pytest.mark.parametrize("name", STRANGERS)
def test_what_may_not_go_out_does_not_though_its_goal_is_open(cluster: Cluster, target: str, name: str) -> None:
    selected = {"podSelector": {"matchLabels": {"role": "stranger"}}, "policyTypes": ["Egress"]}
    dns = {"ports": [{"port": 5353, "protocol": "UDP"}]}
    policy(cluster, "dns-only", {**selected, "egress": [dns]})
    assert eventually(lambda: not reaches(cluster, HOME, name, f"{target}:8080"))
    assert reaches(cluster, HOME, f"friend-{name[-1]}", f"{target}:8080")
    answer = execute(cluster, HOME, name, "nslookup", "kubernetes.default.svc.cluster.local")
    assert "10.96.0.1" in answer
    # The node itself is outside the pod as well.
    node = {"node-a": "10.10.0.2", "node-b": "10.10.0.3"}[f"node-{name[-1]}"]
    said = execute(cluster, HOME, name, "fetch", f"https://{node}:10250/healthz", check=False)
    assert "deadline exceeded" in said, "shut in"
    said = execute(cluster, HOME, f"friend-{name[-1]}", "fetch", f"https://{node}:10250/healthz", check=False)
    assert "certificate" in said, "connected, and not trusted"
