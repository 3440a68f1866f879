"""Small pods for tests of the cluster itself, as the level `restricted` admits them, and namespaces to put them in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.scratch_images import BUSYBOX

SERVE = ("sh", "-c", "echo hello >/tmp/index.html && httpd -p 8080 -h /tmp && exec httpd -f -p 8081 -h /tmp")
"""Answers on 8080 and 8081."""


@contextmanager
def restricted_namespace(cluster: Cluster, name: str, **labels: str) -> Iterator[str]:
    """A namespace whose pods are held to the level `restricted`; afterwards it goes, without being waited for."""
    labels |= {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    cluster.kubectl("create", "--filename=-", stdin=json.dumps(manifest))
    try:
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def pod(
    name: str,
    node: str,
    *,
    command: Sequence[str] = ("sleep", "infinity"),
    labels: Mapping[str, str] | None = None,
    claim: str | None = None,
) -> dict[str, Any]:
    """A pod on `node`, by affinity as a claim that waits for its first consumer needs it; `claim` is at /data."""
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    if claim is not None:
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "data", "mountPath": "/data"})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, **(labels or {})}},
        "spec": {
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": [here]}]
                    }
                }
            },
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": BUSYBOX,
                    "imagePullPolicy": "Never",
                    "command": list(command),
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
        },
    }


def server(name: str, node: str, *, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A pod that answers HTTP on 8080 (named `http`) and 8081, and is Ready once the kubelet has seen that."""
    manifest = pod(name, node, command=SERVE, labels=labels)
    container = manifest["spec"]["containers"][0]
    container["ports"] = [{"name": "http", "containerPort": 8080}]
    container["readinessProbe"] = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    return manifest


def start(cluster: Cluster, namespace: str, *manifests: Mapping[str, Any]) -> None:
    """Create pods, and wait until they are Ready."""
    items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
    cluster.kubectl("-n", namespace, "apply", "--filename=-", stdin=json.dumps(items))
    pods = [f"pod/{each['metadata']['name']}" for each in manifests if each["kind"] == "Pod"]
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "--timeout=60s", *pods)


def address(cluster: Cluster, namespace: str, name: str) -> str:
    found: str = cluster.get("-n", namespace, "pod", name)["status"]["podIP"]
    return found


def execute(cluster: Cluster, namespace: str, name: str, *command: str, check: bool = True) -> str:
    """Run a command in a pod; its output."""
    return cluster.kubectl("-n", namespace, "exec", name, "--", *command, check=check)


def reaches(cluster: Cluster, namespace: str, name: str, target: str) -> bool:
    """Whether `http://target` answers a pod within two seconds."""
    said = execute(cluster, namespace, name, "fetch", f"http://{target}/", check=False)
    return "hello" in said


def eventually(holds: Callable[[], bool], *, within_seconds: float = 20.0) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + within_seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
