"""`roadstead orphan` against a real API server: it frees what nobody else can, and only then."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from roadstead.adapters.kube.revisions import to_object
from roadstead.cli import orphan
from roadstead.cli.main import app
from roadstead.domain.model import Model, ModelKey
from tests.contract.kube.conftest import local_model
from tests.fixtures.control_plane import RunningControlPlane
from tests.fixtures.kept_release import a_release

pytestmark = pytest.mark.contract
LEASE = "roadstead-operator"

Orphan = Callable[..., Result]


@pytest.fixture
def run(plane: RunningControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Orphan:
    """`roadstead orphan`; the product lives in the test's own namespace, and a living operator renews quickly."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    monkeypatch.setenv("ROADSTEAD_NAMESPACE", namespace)
    monkeypatch.setenv("COLUMNS", "300")

    def orphan(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["orphan", *arguments])

    return orphan


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphan, "sleep", lambda _: None)


@pytest.fixture
def model(plane: RunningControlPlane, namespace: str) -> str:
    """A LocalModel as an operator left it: `NAMESPACE/NAME`."""
    finalizers = ["roadstead.dev/finalizer", "roadstead.dev/kopf", "example.org/ours"]
    made = local_model(namespace)
    made["metadata"]["finalizers"] = finalizers
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(made))
    return f"{namespace}/assistant"


def held(plane: RunningControlPlane, namespace: str, *, holder: str, age: timedelta) -> None:
    renewed = (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed, "acquireTime": renewed}
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": LEASE, "namespace": namespace},
        "spec": spec,
    }
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(lease))


def finalizers(plane: RunningControlPlane, namespace: str) -> list[str]:
    found = plane.kubectl("get", "localmodel", "assistant", "-n", namespace, "-o", "json")
    listed: list[str] = json.loads(found)["metadata"].get("finalizers", [])
    return listed


def test_our_finalizers_go_and_those_of_others_stay(
    run: Orphan, model: str, plane: RunningControlPlane, namespace: str
) -> None:
    done = run(model)
    assert done.exit_code == 0, done.output
    assert finalizers(plane, namespace) == ["example.org/ours"]
    assert "roadstead.dev/finalizer and roadstead.dev/kopf was removed" in done.output
    assert "still held by example.org/ours" in done.output
    again = run(model)
    assert again.exit_code == 0
    assert "has no finalizer of Roadstead: nothing was changed" in again.output


def test_a_model_whose_deletion_waits_is_gone_at_once(run: Orphan, plane: RunningControlPlane, namespace: str) -> None:
    made = local_model(namespace)
    made["metadata"]["finalizers"] = ["roadstead.dev/finalizer"]
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(made))
    plane.kubectl("delete", "localmodel", "assistant", "-n", namespace, "--wait=false")
    done = run(f"{namespace}/assistant")
    assert done.exit_code == 0, done.output
    assert "so it is gone now" in done.output
    assert "NotFound" in plane.kubectl("get", "localmodel", "assistant", "-n", namespace, check=False)


@pytest.mark.parametrize("age", [timedelta(seconds=3), timedelta(seconds=-40), timedelta(hours=2)])
def test_it_is_refused_while_an_operator_renews_its_lease_whatever_its_clock_says(
    age: timedelta, run: Orphan, model: str, plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = model.partition("/")[0]
    held(plane, namespace, holder="operator-1_abc", age=age)
    renewed = age - timedelta(seconds=5)
    monkeypatch.setattr(orphan, "sleep", lambda _: held(plane, namespace, holder="operator-1_abc", age=renewed))
    refused = run(model)
    assert refused.exit_code == 3
    assert refused.stderr.startswith(f"OperatorLives: An operator leads: operator-1_abc holds the Lease {namespace}/")
    assert "roadstead.dev/finalizer" in finalizers(plane, namespace)
    assert run(model, "--force").exit_code == 0
    assert finalizers(plane, namespace) == ["example.org/ours"]


def test_a_fresh_lease_is_watched_for_as_long_as_it_was_taken_for(
    run: Orphan, model: str, plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(plane, model.partition("/")[0], holder="just-died", age=timedelta(seconds=1))
    slept: list[float] = []
    monkeypatch.setattr(orphan, "sleep", slept.append)
    assert run(model).exit_code == 0
    assert sum(slept) == 15


@pytest.mark.parametrize("holder", ["", "dead-operator"])
def test_a_lease_that_nobody_renews_holds_nothing_up(
    holder: str, run: Orphan, model: str, plane: RunningControlPlane, quick: None
) -> None:
    held(plane, model.partition("/")[0], holder=holder, age=timedelta(minutes=1))
    assert run(model).exit_code == 0


def test_what_it_leaves_is_listed(run: Orphan, model: str, plane: RunningControlPlane, namespace: str) -> None:
    found = json.loads(plane.kubectl("get", "localmodel", "assistant", "-n", namespace, "-o", "json"))
    slot = {
        "name": f"{namespace}.assistant.0a1b2c3d.node-a", "node": "node-a", "pool": "cpu", "releases": [1],
        "variant": "q4", "engine": "LlamaCpp", "replicas": 2, "ready": 2, "weight": 1,
        "memory": {"estimated": "145Mi"}, "state": "Serving", "message": "",
    }  # fmt: skip
    plane.kubectl(
        "patch", "localmodel", "assistant", "-n", namespace, "--subresource=status", "--type=merge", "-p",
        json.dumps({"status": {"slots": [slot]}}),
    )  # fmt: skip
    owner = Model(
        key=ModelKey(namespace, "assistant"), uid=found["metadata"]["uid"], resource_version="1", generation=1,
        created=datetime.now(UTC), spec=None,
    )  # fmt: skip
    plane.kubectl("create", "-f", "-", stdin=json.dumps(to_object(owner, a_release(number=3))))
    route: dict[str, Any] = {
        "apiVersion": "roadstead.dev/v1alpha1",
        "kind": "ModelRoute",
        "metadata": {"name": "its-route", "namespace": namespace},
        "spec": {"model": model, "names": ["assistant"], "task": "Chat", "slots": []},
    }
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(route))
    other = {
        **route,
        "metadata": {"name": "another", "namespace": namespace},
        "spec": {**route["spec"], "model": "a/b"},
    }
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(other))

    told = " ".join(run(model).output.split())

    assert f"ModelRoute {namespace}/its-route gateways go on by it" in told
    assert "another" not in told
    assert f"ControllerRevision {namespace}/assistant-r3" in told
    assert f"Slot {slot['name']} 2 replicas of q4 on node-a" in told
    assert "Weights sha256:000000000000 93.5 MiB of q4 in the stores of node-a" in told
    assert f"Ledger {model}" in told
    plane.kubectl("get", "modelroute", "its-route", "-n", namespace)
    plane.kubectl("get", "controllerrevision", "assistant-r3", "-n", namespace)


def test_a_model_that_is_not_there_and_a_cluster_that_does_not_answer_are_said(
    run: Orphan, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = run(f"{namespace}/nobody")
    assert missing.exit_code == 1
    assert missing.stderr.startswith(f"ModelNotFound: There is no LocalModel {namespace}/nobody.")
    assert run("nobody").stderr.startswith("ModelNotFound: There is no LocalModel default/nobody.")
    unknown = run("nobody", "--kube-context", "no-such-context")
    assert unknown.stderr.startswith("KubeconfigUnusable: ")
    monkeypatch.setenv("KUBECONFIG", "/nowhere/kubeconfig")
    assert run("nobody").stderr.startswith("KubeconfigUnusable: ")


def test_who_may_not_read_the_lease_is_told_so(
    model: str, plane: RunningControlPlane, namespace: str, run: Orphan, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane.kubectl("create", "serviceaccount", "team", "-n", namespace)
    plane.kubectl("create", "role", "team", "-n", namespace, "--verb=get,patch", "--resource=localmodels.roadstead.dev")
    plane.kubectl("create", "rolebinding", "team", "-n", namespace, "--role=team", f"--serviceaccount={namespace}:team")
    token = plane.kubectl("create", "token", "team", "-n", namespace).strip()
    config = json.loads(plane.kubectl("config", "view", "--raw", "-o", "json"))
    config["users"][0]["user"] = {"token": token}
    own = plane.kubeconfig.with_name("kubeconfig-team")
    own.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(own))
    refused = run(model)
    assert (refused.exit_code, refused.stderr.split(":")[0]) == (3, "OperatorNotKnown")
    freed = run(model, "--force")
    assert freed.exit_code == 0, freed.output
    told = " ".join(freed.output.split())
    assert "ModelRoute ? could not be listed" in told
    assert "ControllerRevision ? could not be listed" in told
    assert finalizers(plane, namespace) == ["example.org/ours"]
