"""The cluster for tests does what any cluster does."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.home import NODES
from tests.cluster.machine.scratch_images import BUSYBOX
from tests.cluster.pods import (
    address,
    eventually,
    execute,
    pod,
    reaches,
    restricted_namespace,
    server,
    start,
)

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    with restricted_namespace(cluster, "basics") as name:
        start(cluster, name, server("server-a", "node-a"), server("server-b", "node-b"))
        start(cluster, name, pod("client-a", "node-a"), pod("client-b", "node-b"))
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "far"},
            "spec": {"selector": {"app": "server-b"}, "ports": [{"port": 80, "targetPort": "http"}]},
        }
        cluster.kubectl("-n", name, "create", "--filename=-", stdin=json.dumps(service))
        yield name


def test_both_nodes_are_ready_and_of_the_pinned_version(cluster: Cluster) -> None:
    nodes = cluster.get("nodes")["items"]
    assert [node["metadata"]["name"] for node in nodes] == list(NODES)
    for node in nodes:
        assert {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"] == "True"
        assert node["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.36.")


@pytest.mark.parametrize("node", NODES)
def test_a_restricted_pod_runs_on_each_node(cluster: Cluster, namespace: str, node: str) -> None:
    client = f"client-{node[-1]}"
    assert execute(cluster, namespace, client, "id", "-u").strip() == "10001"
    assert "Read-only" in execute(cluster, namespace, client, "touch", "/x", check=False)
    assert cluster.get("-n", namespace, "pod", client)["spec"]["nodeName"] == node


def test_a_service_on_the_other_node_is_found_by_name_and_answers(cluster: Cluster, namespace: str) -> None:
    assert eventually(lambda: reaches(cluster, namespace, "client-a", f"far.{namespace}.svc.cluster.local"))
    assert reaches(cluster, namespace, "client-a", "far"), "by the search path of the namespace"


def test_pods_reach_each_other_on_both_nodes(cluster: Cluster, namespace: str) -> None:
    for client in ("client-a", "client-b"):
        for target in ("server-a", "server-b"):
            assert reaches(cluster, namespace, client, f"{address(cluster, namespace, target)}:8080")


def test_a_service_is_reached_from_the_host(cluster: Cluster, namespace: str) -> None:
    with cluster.forward(f"{namespace}/far", 80) as port:
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read() == b"hello\n"
    proxied = cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/services/far:80/proxy/")
    assert proxied == "hello\n"


def test_logs_and_port_forward_work(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, pod("speaker", "node-b", command=("sh", "-c", "echo spoken; exec sleep infinity")))
    assert cluster.kubectl("-n", namespace, "logs", "speaker") == "spoken\n"
    command = [str(cluster.programs.control_plane.kubectl), f"--kubeconfig={cluster.kubeconfig}", "-n", namespace]
    with subprocess.Popen(
        [*command, "port-forward", "server-b", ":8080"], stdout=subprocess.PIPE, text=True
    ) as forwarding:
        assert forwarding.stdout is not None
        local = forwarding.stdout.readline().split("127.0.0.1:")[1].split()[0]
        assert urllib.request.urlopen(f"http://127.0.0.1:{local}/", timeout=5).read() == b"hello\n"
        forwarding.send_signal(signal.SIGTERM)


def test_a_root_pod_is_refused_in_a_restricted_namespace(cluster: Cluster, namespace: str) -> None:
    manifest = pod("root", "node-a")
    manifest["spec"]["securityContext"]["runAsUser"] = 0
    said = cluster.kubectl("-n", namespace, "create", "--filename=-", stdin=json.dumps(manifest), check=False)
    assert "violates PodSecurity" in said
    assert "runAsUser=0" in said


def test_a_claim_binds_where_its_pod_is_pinned_and_goes_with_its_disk(cluster: Cluster) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "disk"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    writes = pod("writer", "node-b", command=("sh", "-c", "id >/data/me && exec sleep infinity"), claim="disk")
    with restricted_namespace(cluster, "disks") as namespace:
        start(cluster, namespace, claim, writes)
        assert "uid=10001" in execute(cluster, namespace, "writer", "cat", "/data/me")
        name = cluster.get("-n", namespace, "pvc", "disk")["spec"]["volumeName"]
        volume = cluster.get("pv", name)["spec"]
        assert volume["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] == ["node-b"]
        folder = volume["local"]["path"]
        assert cluster.in_node("node-b", ["test", "-d", folder]).returncode == 0
    # The namespace takes its claims with it, and a claim its volume.
    assert eventually(lambda: "NotFound" in cluster.kubectl("get", "pv", name, check=False))
    assert cluster.in_node("node-b", ["test", "-d", folder]).returncode == 1


def test_the_audit_log_says_who_asked_what(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "get", "configmaps", "--as=system:serviceaccount:basics:nobody", check=False)

    def is_logged() -> bool:
        events = [json.loads(line) for line in cluster.audit_log.read_text().splitlines() if line.endswith("}")]
        return any(
            event["verb"] == "list"
            and event.get("impersonatedUser", {}).get("username") == "system:serviceaccount:basics:nobody"
            and event["objectRef"]["resource"] == "configmaps"
            and event["responseStatus"]["code"] == 403
            for event in events
        )

    assert eventually(is_logged)


def test_a_drained_node_loses_its_pods_and_takes_new_ones_again(cluster: Cluster) -> None:
    with restricted_namespace(cluster, "drained") as namespace:
        template = pod("any", "node-b")
        del template["spec"]["affinity"]
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "any"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "any"}},
                "template": {"metadata": template["metadata"], "spec": template["spec"]},
            },
        }
        cluster.kubectl("-n", namespace, "create", "--filename=-", stdin=json.dumps(deployment))
        cluster.kubectl("-n", namespace, "rollout", "status", "deployment/any", "--timeout=60s")
        try:
            cluster.kubectl("drain", "node-b", "--ignore-daemonsets", "--delete-emptydir-data", "--force")
            cluster.kubectl("-n", namespace, "rollout", "status", "deployment/any", "--timeout=60s")
            pods = cluster.get("-n", namespace, "pods", "--field-selector=status.phase=Running")["items"]
            assert {each["spec"]["nodeName"] for each in pods} == {"node-a"}
        finally:
            cluster.kubectl("uncordon", "node-b")


def test_helm_speaks_to_it(cluster: Cluster) -> None:
    assert cluster.helm("version", "--template={{.Version}}").startswith("v4.")
    assert cluster.helm("list", "--all-namespaces", "--short") == ""


def test_an_image_that_is_imported_is_on_both_nodes(cluster: Cluster) -> None:
    for node in NODES:
        names = [name for image in cluster.get("node", node)["status"]["images"] for name in image["names"]]
        assert BUSYBOX in names
