"""The CLI asks a read API through the real API server's service proxy, which keeps Authorization for itself."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner, Result

from roadstead.cli.main import app
from roadstead.domain.engine_log import EngineLog
from tests.fixtures.control_plane import RunningControlPlane
from tests.fixtures.memory_fleet import MemoryFleet
from tests.fixtures.patience import wait_until
from tests.fixtures.read_api import SECRET, TOKEN, VARIANTS, MemoryLogs, read_api_in_a_thread, two_nodes

pytestmark = pytest.mark.contract


def own_address() -> str | None:
    """One that is not loopback: the proxy refuses to go there."""
    found = [each for addresses in psutil.net_if_addrs().values() for each in addresses]
    return next((a.address for a in found if a.family == socket.AF_INET and not a.address.startswith("127.")), None)


@dataclass
class Cluster:
    plane: RunningControlPlane
    namespace: str
    fleet: MemoryFleet
    logs: MemoryLogs

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def cluster(
    plane: RunningControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """A release as the chart installs it, as far as its read API goes; its operator is in this process."""
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback, where the service proxy does not go")
    fleet, logs = two_nodes(), MemoryLogs()
    fleet.apply("assistant", *VARIANTS, replicas=2)
    asyncio.run(fleet.settle())
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    monkeypatch.setenv("ROADSTEAD_NAMESPACE", namespace)
    monkeypatch.setenv("ROADSTEAD_HOME", str(tmp_path / "no-fleet-here"))
    monkeypatch.setenv("COLUMNS", "250")
    for name in ("ROADSTEAD_API", "ROADSTEAD_API_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    with read_api_in_a_thread(tmp_path, fleet=fleet, logs=logs, host=address) as url:
        port = int(url.rpartition(":")[2])
        objects = [
            secret(namespace),
            {
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "roadstead-api", "namespace": namespace},
                "spec": {"ports": [{"name": "api", "port": 8091, "targetPort": port}]},
            },
            {
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator", "namespace": namespace},
                "spec": {"automountServiceAccountToken": False, "containers": [{"name": "operator", "image": "none"}]},
            },
            {
                "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "roadstead-api", "namespace": namespace},
                "subsets": [{
                    "addresses": [{
                        "ip": address,
                        "targetRef": {"kind": "Pod", "namespace": namespace, "name": "operator"},
                    }],
                    "ports": [{"name": "api", "port": port}],
                }],
            },
        ]  # fmt: skip
        plane.kubectl("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=20s")
        plane.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        # The proxy goes to Pods only, by the address in their status.
        status = {"status": {"podIP": address, "podIPs": [{"ip": address}], "phase": "Running"}}
        plane.kubectl(
            "patch",
            "pod",
            "operator",
            "-n",
            namespace,
            "--subresource=status",
            "--type=merge",
            "-p",
            json.dumps(status),
        )
        yield Cluster(plane, namespace, fleet, logs)


def secret(namespace: str, token: str = TOKEN) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "roadstead-tokens", "namespace": namespace},
        "data": {"api.token": base64.b64encode(token.encode()).decode()},
    }


def test_models_nodes_and_the_plan_are_shown(cluster: Cluster) -> None:
    models = cluster.run("models")
    assert models.exit_code == 0, models.output
    assert "team       assistant  Ready   2/2" in models.output
    nodes = cluster.run("nodes")
    assert "team/assistant bf16 1/1" in nodes.output
    plan = cluster.run("plan", "assistant")
    assert "not on node-b: needs 616.6 MiB" in plan.output
    assert json.loads(cluster.run("models", "--json").output)["items"][0]["name"] == "assistant"


def test_questions_with_a_body_go_through_the_proxy_and_keep_their_secrets(cluster: Cluster) -> None:
    shown = cluster.run("fit", VARIANTS[0].source, "--context", "2048")
    assert shown.exit_code == 0, shown.output
    assert "needs 616.6 MiB" in shown.output
    refused = cluster.run("fit", f"https://models.example/none.gguf?{SECRET}")
    assert refused.stderr.startswith("SourceNotFound: ")
    assert SECRET not in refused.output


def test_engine_logs_stream_through_the_proxy(cluster: Cluster) -> None:
    log = next(
        EngineLog(node="node-a", slot=app.slot.name, index=0)
        for app in cluster.fleet.applications.values()
        if app.slot.node == "node-a"
    )
    cluster.logs.written[log] = ["loading", "serving"]
    shown = cluster.run("logs", "assistant", "-n", "1")
    assert (shown.exit_code, shown.output) == (0, f"{log.label} serving\n")
    follower = subprocess.Popen(
        [sys.executable, "-m", "roadstead.cli.main", "logs", "team/assistant", "-f"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert follower.stdout is not None
        assert follower.stdout.readline() == f"{log.label} loading\n"
        assert follower.stdout.readline() == f"{log.label} serving\n"
    finally:
        follower.terminate()
        follower.wait(timeout=10)


def test_what_is_missing_is_said_with_the_remedy(cluster: Cluster) -> None:
    assert cluster.run("logs", "nobody").stderr.startswith("ModelNotFound: There is no LocalModel default/nobody.")
    assert cluster.run("logs", "--in", cluster.namespace).stderr.startswith("NameMissing: ")
    elsewhere = cluster.run("models", "--release", "other")
    assert elsewhere.exit_code == 1
    assert elsewhere.stderr.startswith(f"NoSuchRelease: There is no Secret {cluster.namespace}/other-tokens")
    cluster.plane.kubectl("delete", "endpoints", "--all", "-n", cluster.namespace)
    assert cluster.run("models").stderr.startswith("ReadApiUnreachable: Nobody answers for the operators of release")
    cluster.plane.kubectl("delete", "service", "roadstead-api", "-n", cluster.namespace)
    assert cluster.run("models").stderr.startswith("ReadApiUnreachable: ")


def test_a_wrong_token_is_refused(cluster: Cluster) -> None:
    cluster.plane.kubectl("apply", "-f", "-", stdin=json.dumps(secret(cluster.namespace, "stale")))
    refused = cluster.run("nodes")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Unauthorized: The API token is wrong.")


def test_these_rights_suffice_and_without_the_secret_a_token_file_does(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, namespace = cluster.plane, cluster.namespace
    plane.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    role = ("create", "role", "reader", "-n", namespace)
    plane.kubectl(*role, "--verb=get", "--resource=services/proxy", "--resource-name=roadstead-api:api")
    plane.kubectl(
        "create", "rolebinding", "reader", "-n", namespace, "--role=reader", f"--serviceaccount={namespace}:reader"
    )
    config = json.loads(plane.kubectl("config", "view", "--raw", "-o", "json"))
    token = plane.kubectl("create", "token", "reader", "-n", namespace).strip()
    config["users"][0]["user"] = {"token": token}
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    refused = cluster.run("models")
    assert (refused.exit_code, refused.stderr.split(":")[0]) == (1, "Forbidden")
    monkeypatch.setenv("ROADSTEAD_API_TOKEN_FILE", str(tmp_path / "api.token"))
    shown = cluster.run("models")
    assert shown.exit_code == 0, shown.output
    asked = cluster.run("fit", VARIANTS[1].source)
    assert (asked.exit_code, asked.stderr.split(":")[0]) == (1, "Forbidden")
    more = json.dumps([{"op": "add", "path": "/rules/0/verbs/-", "value": "create"}])
    plane.kubectl("patch", "role", "reader", "-n", namespace, "--type=json", "-p", more)
    wait_until(lambda: cluster.run("fit", VARIANTS[1].source).exit_code == 0, "a question with a body", seconds=10)
