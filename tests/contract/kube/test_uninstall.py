"""The chart's pre-delete Job on a real API server, with the rights that its Role has and no more."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from roadstead.adapters.kube.api import Api
from roadstead.adapters.kube.installation import KOPF_FINALIZER, KubernetesInstallation
from roadstead.adapters.kube.resources import MODEL_ROUTE
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.domain.workload import PodRole
from roadstead.handlers import edge
from roadstead.services.uninstall import orphaned
from roadstead_gateway.contract import RouteSeen, Tallies
from roadstead_worker.contract import ConfigAccepted
from tests.contract.doors.scripted_door import TOKEN, ScriptedDoor
from tests.contract.doors.states import a_cell, a_slot, an_application
from tests.contract.kube.conftest import local_model
from tests.fixtures.control_plane import RunningControlPlane
from tests.fixtures.patience import found, until

pytestmark = pytest.mark.contract

HOST = "127.77.4.1"
"""A loopback address of this test's own: doors in a cluster are found at fixed ports."""
OURS, THEIRS = "roadstead.dev/finalizer", "example.dev/theirs"
RULES: list[dict[str, Any]] = [
    {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"], "resourceNames": ["rs-operator"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "update", "delete"],
        "resourceNames": ["rs-operator"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "delete"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "delete"]},
    {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": ["list", "delete"]},
    {"apiGroups": ["roadstead.dev"], "resources": ["modelroutes"], "verbs": ["list", "delete"]},
    {"apiGroups": ["roadstead.dev"], "resources": ["localmodels"], "verbs": ["get", "list", "patch"]},
    {"apiGroups": ["roadstead.dev"], "resources": ["localmodels/status"], "verbs": ["patch"]},
]
"""As docs/explanation/security.md lists them."""


def labelled(component: str, *, made_by: str = "roadstead", **more: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "roadstead",
        "app.kubernetes.io/part-of": "roadstead",
        "app.kubernetes.io/instance": "rs",
        "app.kubernetes.io/managed-by": made_by,
        "app.kubernetes.io/component": component,
        **more,
    }


def pod(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "c", "image": "none"}]},
    }


def deployment() -> dict[str, Any]:
    labels = labelled("operator", made_by="Helm")
    template = {"metadata": {"labels": labels}, "spec": pod("", labels)["spec"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "rs-operator"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }


def budget(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "labels": labelled(name.split("-")[1])},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"roadstead.dev/pod": name}}},
    }


def config_map(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}


def route() -> dict[str, Any]:
    spec = {"model": "team/assistant", "names": ["assistant"], "task": "Chat", "slots": []}
    return {"apiVersion": "roadstead.dev/v1alpha1", "kind": "ModelRoute", "metadata": {"name": "r"}, "spec": spec}


OBJECTS: list[dict[str, Any]] = [
    deployment(),
    pod("rs-operator-0", labelled("operator", made_by="Helm")),
    pod("rs-gateway-0", labelled("gateway", made_by="Helm")),
    pod("rs-head-cell-0-0", labelled("head", made_by="Helm", **{"roadstead.dev/cell": "cell-0"})),
    pod("rs-test", labelled("test", made_by="Helm")),
    pod("rs-worker-n1", labelled("worker")),
    pod("rs-agent-n1", labelled("agent")),
    pod("other-worker-n1", labelled("worker") | {"app.kubernetes.io/instance": "other"}),
    budget("rs-worker-n1"),
    budget("rs-agent-n1"),
    config_map("rs-pool-cpu", labelled("operator", **{"roadstead.dev/pool": "cpu"})),
    config_map("rs-workloads", labelled("operator", made_by="Helm")),
    route(),
]


@dataclass(frozen=True, slots=True)
class Site:
    """A namespace with everything of one release, and how to take it down."""

    plane: RunningControlPlane
    namespace: str
    folder: Path

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        return self.plane.kubectl("-n", self.namespace, *arguments, stdin=stdin, check=check)

    def names(self, *kinds: str) -> set[str]:
        return set(self.kubectl("get", ",".join(kinds), "-o", "name").split())

    def model(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", "lm", name, "-o", "json"))
        return found

    @asynccontextmanager
    async def uninstalling(self) -> AsyncIterator[asyncio.subprocess.Process]:
        token = self.folder / "door.token"
        token.write_text(TOKEN)
        environment = {
            "KUBECONFIG": str(self.folder / "job.kubeconfig"),
            "ROADSTEAD_NAMESPACE": self.namespace,
            "ROADSTEAD_RELEASE": "rs",
            "ROADSTEAD_WATCH_NAMESPACES": self.namespace,
            "ROADSTEAD_DOOR_TOKEN_FILE": str(token),
            "ROADSTEAD_UNINSTALL_SECONDS": "42",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "roadstead.runtime.uninstall",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | environment,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def uninstall(self) -> tuple[int, str]:
        """Exit status, and what was said."""
        async with self.uninstalling() as process:
            said, _ = await asyncio.wait_for(process.communicate(), timeout=60)
        return process.returncode or 0, said.decode()


@pytest.fixture
async def site(plane: RunningControlPlane, namespace: str, tmp_path: Path) -> Site:
    """Two models, of which one is being deleted; a kubeconfig for the Job's account."""
    made = Site(plane=plane, namespace=namespace, folder=tmp_path)

    async def account_exists() -> bool | None:
        return "default" in made.kubectl("get", "serviceaccount", check=False) or None

    await found(account_exists, "the default account, without which no Pod is accepted")
    made.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": OBJECTS}))
    for name in ("rs-gateway-0", "rs-head-cell-0-0"):
        status = {"status": {"podIP": HOST, "podIPs": [{"ip": HOST}], "phase": "Running"}}
        made.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "-p", json.dumps(status))
    for name, finalizers in (("kept", [OURS, THEIRS, KOPF_FINALIZER]), ("deleted", [OURS])):
        model = local_model(namespace, name)
        model["metadata"]["finalizers"] = finalizers
        made.kubectl("create", "-f", "-", stdin=json.dumps(model))
    made.kubectl("delete", "lm", "deleted", "--wait=false")
    give_rights(made)
    return made


def give_rights(site: Site) -> None:
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "job"}, "rules": RULES}
    site.kubectl("create", "-f", "-", stdin=json.dumps(role))
    site.kubectl("create", "serviceaccount", "job")
    site.kubectl("create", "rolebinding", "job", "--role=job", f"--serviceaccount={site.namespace}:job")
    token = site.kubectl("create", "token", "job").strip()
    config = site.folder / "job.kubeconfig"
    config.write_bytes(site.plane.kubeconfig.read_bytes())
    name = json.loads(site.plane.kubectl("config", "view", "-o", "json"))["contexts"][0]["name"]
    for arguments in (
        ("set-credentials", "job", f"--token={token}"),
        ("set-context", name, "--user=job"),
    ):
        site.plane.kubectl("config", f"--kubeconfig={config}", *arguments)


@pytest.fixture
async def head() -> AsyncIterator[ScriptedDoor]:
    """A head agent with one slot, which ends as soon as it is told to."""
    async with ScriptedDoor(host=HOST, port=7442) as door:
        door.publish(a_cell("one", an_application(a_slot()), epoch=40))
        door.on_write = lambda _: door.publish(a_cell("two", base="base-2", epoch=41))
        door.answers(ConfigAccepted(base="base-2"))
        yield door


@pytest.fixture
async def gateway(site: Site, api: Api) -> AsyncIterator[ScriptedDoor]:
    """A gateway that forgets its routes once they are deleted."""
    path = MODEL_ROUTE.path(namespace=site.namespace)
    async with AsyncExitStack() as stack:
        door = await stack.enter_async_context(ScriptedDoor(host=HOST, port=8081))
        seen = (RouteSeen(name="r", resource_version="1"),)
        door.tallies = Tallies(gateway="g", synced=True, routes=seen, slots=())

        async def no_route() -> bool | None:
            return not (await api.list(path))[0] or None

        async def follow() -> None:
            await found(no_route, "routes are deleted", seconds=60)
            door.tallies = Tallies(gateway="g", synced=True, routes=(), slots=())

        task = asyncio.create_task(follow())
        stack.callback(task.cancel)
        yield door


async def end_operators(site: Site, api: Api, *, before: Callable[[], Awaitable[None]]) -> None:
    """What the Deployment's controller would do."""
    path = f"/apis/apps/v1/namespaces/{site.namespace}/deployments/rs-operator"

    async def scaled() -> bool | None:
        return (await api.request("GET", path))["spec"]["replicas"] == 0 or None

    await found(scaled, "the operator is scaled to none", seconds=30)
    await before()
    await api.request("DELETE", f"/api/v1/namespaces/{site.namespace}/pods/rs-operator-0")


async def test_what_is_left_is_what_must_be_left(
    site: Site, api: Api, head: ScriptedDoor, gateway: ScriptedDoor
) -> None:
    async def nothing_was_done_yet() -> None:
        assert head.requests == []
        assert "modelroute.roadstead.dev/r" in site.names("modelroutes")

    ending = asyncio.create_task(end_operators(site, api, before=nothing_was_done_yet))
    status, said = await site.uninstall()
    await ending

    assert status == 0, said
    assert "could not be done" not in said
    assert "leading with epoch 41" in said
    assert [(write.method, write.path, write.epoch) for write in head.requests] == [("PUT", "/config", "41")]
    assert json.loads(head.requests[0].body)["applications"] == []
    assert site.names("pods", "pdb", "modelroutes", "leases", "lm") == {
        "pod/rs-gateway-0",
        "pod/rs-head-cell-0-0",
        "pod/other-worker-n1",
        "localmodel.roadstead.dev/kept",
    }
    assert "configmap/rs-workloads" in site.names("configmaps")
    assert "configmap/rs-pool-cpu" not in site.names("configmaps")

    kept = site.model("kept")
    assert kept["metadata"]["finalizers"] == [THEIRS]
    (ready,) = kept["status"]["conditions"]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "False", "Orphaned")
    assert f"release rs in namespace {site.namespace}" in ready["message"]
    assert kept["status"]["printed"]["status"] == "Orphaned"
    assert "url" not in kept["status"]
    site.kubectl("patch", "lm", "kept", "--type=json", '-p=[{"op": "remove", "path": "/metadata/finalizers"}]')


async def test_killed_and_run_again_with_no_door_that_answers(site: Site) -> None:
    site.kubectl("delete", "pod", "rs-operator-0", "--wait=false")
    async with site.uninstalling() as process:
        await until(lambda: "modelroute.roadstead.dev/r" not in site.names("modelroutes"), "a first write", seconds=30)
        process.kill()

    status, said = await site.uninstall()

    assert status == 0, said
    assert "these gateways do not answer, and may still send requests: rs-gateway-0" in said
    assert "what these cells serve is not known, and ends with its Pods: cell-0" in said
    assert site.model("kept")["metadata"]["finalizers"] == [THEIRS]
    assert site.names("pdb", "modelroutes", "leases") == set()

    site.kubectl("patch", "lm", "kept", "--type=json", '-p=[{"op": "remove", "path": "/metadata/finalizers"}]')


async def test_a_model_that_cannot_be_let_go_is_a_failure_with_a_remedy(site: Site) -> None:
    site.kubectl("delete", "pod", "rs-operator-0", "--wait=false")
    rules = [rule for rule in RULES if rule["resources"] != ["localmodels"]]
    rules.append({"apiGroups": ["roadstead.dev"], "resources": ["localmodels"], "verbs": ["get", "list"]})
    site.kubectl("patch", "role", "job", "--type=merge", "-p", json.dumps({"rules": rules}))

    status, said = await site.uninstall()

    assert status == 1, said
    assert "roadstead orphan MODEL" in said
    assert f"{site.namespace}/kept: Forbidden" in said
    for name in ("kept", "deleted"):
        site.kubectl("patch", "lm", name, "--type=json", '-p=[{"op": "remove", "path": "/metadata/finalizers"}]')


async def test_a_person_who_writes_at_the_same_time_loses_nothing(
    api: Api, settings: KubeSettings, plane: RunningControlPlane, namespace: str
) -> None:
    model = local_model(namespace)
    model["metadata"]["finalizers"] = [OURS]
    plane.kubectl("create", "-f", "-", stdin=json.dumps(model))
    installation = KubernetesInstallation(api, settings, release="rs")
    (listed,) = [each for each in await installation.models() if each.key.namespace == namespace]
    plane.kubectl("patch", "lm", "assistant", "-n", namespace, "--type=merge", '-p={"spec": {"replicas": 5}}')
    plane.kubectl("annotate", "lm", "assistant", "-n", namespace, "note=mine")

    await installation.tell(orphaned(listed, where="here"))
    plane.kubectl("annotate", "lm", "assistant", "-n", namespace, "note=mine-too", "--overwrite")
    await installation.let_go(listed)

    after = json.loads(plane.kubectl("get", "lm", "assistant", "-n", namespace, "-o", "json"))
    assert after["spec"]["replicas"] == 5
    assert after["metadata"]["annotations"]["note"] == "mine-too"
    assert "finalizers" not in after["metadata"]
    version = after["metadata"]["resourceVersion"]

    (again,) = [each for each in await installation.models() if each.key.namespace == namespace]
    await installation.tell(orphaned(again, where="here"))
    await installation.let_go(again)
    unchanged = json.loads(plane.kubectl("get", "lm", "assistant", "-n", namespace, "-o", "json"))
    assert unchanged["metadata"]["resourceVersion"] == version, "nothing new is not written"


async def test_what_is_gone_already_is_removed(
    api: Api, settings: KubeSettings, plane: RunningControlPlane, namespace: str
) -> None:
    plane.kubectl("create", "-f", "-", stdin=json.dumps(local_model(namespace)))
    installation = KubernetesInstallation(api, settings, release="rs")
    (listed,) = [each for each in await installation.models() if each.key.namespace == namespace]
    plane.kubectl("delete", "lm", "assistant", "-n", namespace)

    await installation.stop_operators()
    await installation.tell(orphaned(listed, where="here"))
    await installation.let_go(listed)
    await installation.withdraw_route("none")
    await installation.remove_budget("none")
    await installation.remove_pod("none", grace_seconds=1)
    await installation.remove_record("none")
    await installation.forget_lease()

    assert await installation.pods(PodRole.WORKER) == ()


def test_kopfs_finalizer_is_the_one_that_kopf_is_told() -> None:
    assert edge.settings().persistence.finalizer == KOPF_FINALIZER
