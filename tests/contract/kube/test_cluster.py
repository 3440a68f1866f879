"""The ``Cluster`` port against a real API server: what is written is read back, guarded, and skipped where known."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from roadstead.adapters.kube.api import Api
from roadstead.adapters.kube.cluster import KubernetesCluster
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.domain.model import ConditionStatus, Model, ModelKey
from roadstead.domain.plan import ConditionReport, ModelReport, SlotReport, VariantReport, Verdict
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Release
from roadstead.domain.snapshot import Address, Route
from roadstead.ports import DoorError
from tests.contract.kube.conftest import local_model
from tests.fixtures.control_plane import RunningControlPlane
from tests.fixtures.kept_release import a_release
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract


@pytest.fixture
def pokes() -> list[str]:
    return []


@pytest.fixture
async def cluster(settings: KubeSettings, pokes: list[str]) -> AsyncIterator[KubernetesCluster]:
    async with KubernetesCluster.connect(settings, poke=pokes.append) as connected:
        await until(lambda: connected.synced, "every list was read")
        yield connected


async def applied(plane: RunningControlPlane, cluster: KubernetesCluster, obj: dict[str, Any]) -> Model:
    """Apply and deliver, as Kopf would."""
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(obj))
    namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
    found = json.loads(plane.kubectl("get", "lm", name, "-n", namespace, "-o", "json"))
    cluster.deliver_model("ADDED", found)
    return the_model(cluster, ModelKey(namespace, name))


def the_model(cluster: KubernetesCluster, key: ModelKey) -> Model:
    return next(model for model in cluster.models() if model.key == key)


def report_of(model: Model, *, ready: int, release: Release | None = None) -> ModelReport:
    serving = ConditionStatus.TRUE if ready else ConditionStatus.FALSE
    return ModelReport(
        model=model,
        release=release,
        previous=None,
        replicas=1,
        ready=ready,
        variants=(
            VariantReport(
                name="q4",
                quality=None,
                bytes=100,
                chosen=1,
                verdict=Verdict(reason=Reason.CHOSEN, message="1 on node-a"),
            ),
        ),
        slots=(
            SlotReport(
                name="s",
                node="node-a",
                pool="cpu",
                releases=(1,),
                variant="q4",
                engine="LlamaCpp",
                replicas=1,
                ready=ready,
                weight=1,
                memory_estimated=10**9,
                memory_measured=0,
                state=Reason.SERVING,
                message="",
            ),
        ),
        conditions=(
            ConditionReport(type="Ready", status=serving, reason=Reason.SERVING, message="answers on node-a"),
            ConditionReport(
                type="Progressing", status=ConditionStatus.FALSE, reason=Reason.SETTLED, message="nothing to do"
            ),
        ),
        status="Serving" if ready else "Starting",
    )


async def test_kubectl_shows_what_was_published(
    plane: RunningControlPlane, cluster: KubernetesCluster, namespace: str
) -> None:
    model = await applied(plane, cluster, local_model(namespace, servedName="chat"))

    await cluster.publish_status(report_of(model, ready=1, release=a_release(number=7)))

    header, row = plane.kubectl("get", "lm", "-n", namespace, "-o", "wide").splitlines()
    assert header.split() == ["NAME", "MODEL", "RELEASE", "VARIANTS", "READY", "STATUS", "AGE", "NODES", "MESSAGE"]
    assert row.split()[:6] == ["assistant", "chat", "7", "q4", "1/1", "Serving"]
    assert row.split()[7:] == ["node-a", "answers", "on", "node-a"]
    plane.kubectl("wait", "--for=condition=Ready", "lm/assistant", "-n", namespace, "--timeout=5s")


async def test_the_scale_subresource_tells_replicas_and_selector(
    plane: RunningControlPlane, cluster: KubernetesCluster, api: Api, namespace: str
) -> None:
    model = await applied(plane, cluster, local_model(namespace, replicas=2))
    await cluster.publish_status(report_of(model, ready=1))

    scale = await api.request("GET", f"/apis/roadstead.dev/v1alpha1/namespaces/{namespace}/localmodels/assistant/scale")

    assert scale["spec"]["replicas"] == 2
    assert scale["status"] == {"replicas": 1, "selector": "roadstead.dev/model=assistant"}


async def test_a_status_that_says_nothing_new_is_not_written(
    plane: RunningControlPlane, cluster: KubernetesCluster, namespace: str
) -> None:
    model = await applied(plane, cluster, local_model(namespace))
    await cluster.publish_status(report_of(model, ready=1))
    written = the_model(cluster, model.key)

    await cluster.publish_status(report_of(written, ready=1))

    assert the_model(cluster, model.key) == written
    assert written.resource_version != model.resource_version


async def test_a_transition_time_moves_only_when_the_status_flips(
    plane: RunningControlPlane, cluster: KubernetesCluster, namespace: str
) -> None:
    model = await applied(plane, cluster, local_model(namespace))
    await cluster.publish_status(report_of(model, ready=0))
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    first = the_model(cluster, model.key)
    aged = replace(first, conditions=tuple(replace(row, last_transition=long_ago) for row in first.conditions))

    await cluster.publish_status(report_of(aged, ready=1))

    times = {row.type: row.last_transition for row in the_model(cluster, model.key).conditions}
    assert times["Progressing"] == long_ago
    assert times["Ready"] > long_ago


async def test_a_status_planned_from_an_older_object_is_refused(
    plane: RunningControlPlane, cluster: KubernetesCluster, namespace: str
) -> None:
    model = await applied(plane, cluster, local_model(namespace))
    plane.kubectl("scale", "lm/assistant", "--replicas=5", "-n", namespace)

    with pytest.raises(DoorError, match="the object has been modified") as refused:
        await cluster.publish_status(report_of(model, ready=1))

    assert refused.value.code == "Conflict"


async def test_conditions_of_other_writers_stay(
    plane: RunningControlPlane, cluster: KubernetesCluster, namespace: str
) -> None:
    model = await applied(plane, cluster, local_model(namespace))
    await cluster.publish_status(report_of(model, ready=0))
    foreign = {
        "type": "Audited",
        "status": "True",
        "reason": "Seen",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    patch = json.dumps({"apiVersion": "roadstead.dev/v1alpha1", "kind": "LocalModel", "metadata": {"name": "assistant"},
                        "status": {"conditions": [foreign]}})  # fmt: skip
    plane.kubectl(
        "apply", "--server-side", "--field-manager=auditor", "--subresource=status", "-n", namespace, "-f", "-",
        stdin=patch,
    )  # fmt: skip
    seen = await redelivered(plane, cluster, namespace)

    await cluster.publish_status(report_of(seen, ready=0))
    assert the_model(cluster, model.key) == seen

    await cluster.publish_status(report_of(seen, ready=1))
    assert {row.type for row in the_model(cluster, model.key).conditions} == {"Ready", "Progressing", "Audited"}


async def redelivered(plane: RunningControlPlane, cluster: KubernetesCluster, namespace: str) -> Model:
    found = json.loads(plane.kubectl("get", "lm", "assistant", "-n", namespace, "-o", "json"))
    cluster.deliver_model("MODIFIED", found)
    return the_model(cluster, ModelKey(namespace, "assistant"))


async def test_a_finalizer_keeps_the_object_until_it_is_cleared_and_others_stay(
    plane: RunningControlPlane, cluster: KubernetesCluster, namespace: str
) -> None:
    obj = local_model(namespace)
    obj["metadata"]["finalizers"] = ["example.org/other"]
    model = await applied(plane, cluster, obj)
    await cluster.set_finalizer(model)
    await cluster.set_finalizer(model)
    assert the_model(cluster, model.key).finalized

    plane.kubectl("delete", "lm/assistant", "-n", namespace, "--wait=false")
    deleting = await redelivered(plane, cluster, namespace)
    assert deleting.deleting
    await cluster.clear_finalizer(deleting)

    left = json.loads(plane.kubectl("get", "lm/assistant", "-n", namespace, "-o", "json"))
    assert left["metadata"]["finalizers"] == ["example.org/other"]
    none = '[{"op": "remove", "path": "/metadata/finalizers"}]'
    plane.kubectl("patch", "lm/assistant", "-n", namespace, "--type=json", f"-p={none}")


async def test_the_last_finalizer_takes_the_object_with_it_and_a_second_time_is_success(
    plane: RunningControlPlane, cluster: KubernetesCluster, namespace: str
) -> None:
    model = await applied(plane, cluster, local_model(namespace))
    await cluster.set_finalizer(model)
    plane.kubectl("delete", "lm/assistant", "-n", namespace, "--wait=false")
    deleting = await redelivered(plane, cluster, namespace)

    await cluster.clear_finalizer(deleting)
    await cluster.clear_finalizer(deleting)

    assert [model for model in cluster.models() if model.key.namespace == namespace] == []
    assert "NotFound" in plane.kubectl("get", "lm/assistant", "-n", namespace, check=False)


async def test_one_turn_may_set_the_finalizer_and_then_publish(
    plane: RunningControlPlane, cluster: KubernetesCluster, namespace: str
) -> None:
    """Both were planned from one version; our own first write must not make the second a conflict."""
    model = await applied(plane, cluster, local_model(namespace))

    await cluster.set_finalizer(model)
    await cluster.publish_status(report_of(model, ready=1))

    assert the_model(cluster, model.key).conditions


async def test_a_status_never_wakes_the_loop_and_a_new_generation_does(
    plane: RunningControlPlane, cluster: KubernetesCluster, pokes: list[str], namespace: str
) -> None:
    model = await applied(plane, cluster, local_model(namespace))
    pokes.clear()

    await cluster.publish_status(report_of(model, ready=1))
    assert pokes == []

    plane.kubectl("scale", "lm/assistant", "--replicas=4", "-n", namespace)
    await redelivered(plane, cluster, namespace)
    assert pokes == [f"LocalModel {namespace}/assistant changed"]


async def test_a_release_is_read_back_as_it_was_kept(
    plane: RunningControlPlane, cluster: KubernetesCluster, settings: KubeSettings, namespace: str
) -> None:
    model = await applied(plane, cluster, local_model(namespace))
    releases = (a_release(number=1), a_release(number=2, concurrency=2))

    for release in reversed(releases):
        await cluster.keep_release(model, release)
        await cluster.keep_release(model, release)

    assert cluster.releases()[model.uid] == releases
    async with KubernetesCluster.connect(settings, poke=lambda _: None) as fresh:
        await until(lambda: fresh.synced, "every list was read")
        assert fresh.releases()[model.uid] == releases
    owner = json.loads(plane.kubectl("get", "controllerrevision", "assistant-r1", "-n", namespace, "-o", "json"))
    assert owner["metadata"]["ownerReferences"][0]["controller"] is True


async def test_a_number_that_is_taken_by_other_contents_is_not_overwritten(
    plane: RunningControlPlane, settings: KubeSettings, cluster: KubernetesCluster, namespace: str
) -> None:
    model = await applied(plane, cluster, local_model(namespace))
    await cluster.keep_release(model, a_release(number=1))

    with pytest.raises(DoorError, match="is of other contents"):
        await cluster.keep_release(model, a_release(number=1, concurrency=9))


async def test_a_release_that_is_forgotten_goes_and_another_objects_of_its_name_stays(
    plane: RunningControlPlane, cluster: KubernetesCluster, namespace: str
) -> None:
    model = await applied(plane, cluster, local_model(namespace))
    for number in (1, 2):
        await cluster.keep_release(model, a_release(number=number, concurrency=number))

    await cluster.forget_release(replace(model, uid="of-an-earlier-object"), 1)
    assert [release.number for release in cluster.releases()[model.uid]] == [1, 2]
    await cluster.forget_release(model, 1)
    await cluster.forget_release(model, 1)

    assert [release.number for release in cluster.releases()[model.uid]] == [2]
    left = plane.kubectl("get", "controllerrevisions", "-n", namespace, "--output=name").split()
    assert left == ["controllerrevision.apps/assistant-r2"]


async def test_revisions_end_with_their_model(
    plane: RunningControlPlane, cluster: KubernetesCluster, namespace: str
) -> None:
    model = await applied(plane, cluster, local_model(namespace))
    await cluster.keep_release(model, a_release(number=1))

    plane.kubectl("delete", "lm/assistant", "-n", namespace)

    await until(lambda: model.uid not in cluster.releases(), "the revision was collected", seconds=60)


def route_of(namespace: str, *, names: tuple[str, ...] = ("assistant", "gpt-4o-mini")) -> Route:
    return Route(
        name=f"{namespace}.assistant",
        model=ModelKey(namespace, "assistant"),
        names=names,
        task="Chat",
        slots=(
            Address(
                slot="t.assistant.0a.node-a",
                release=3,
                variant="q4",
                node="node-a",
                addresses=("127.0.0.1:30000",),
                weight=1,
                capacity=4,
                draining=False,
            ),
        ),
    )


async def test_a_route_is_published_changed_and_withdrawn(
    plane: RunningControlPlane, cluster: KubernetesCluster, pokes: list[str], namespace: str
) -> None:
    wanted = route_of(namespace)

    await cluster.publish_route(wanted)
    published = cluster.routes()[wanted.model]
    assert replace(published, resource_version="") == wanted

    await cluster.publish_route(wanted)
    assert cluster.routes()[wanted.model] == published

    await cluster.publish_route(replace(published, slots=(), names=("assistant",)))
    stored = json.loads(plane.kubectl("get", "modelroute", wanted.name, "-n", namespace, "-o", "json"))
    assert stored["spec"] == {"model": f"{namespace}/assistant", "names": ["assistant"], "slots": [], "task": "Chat"}

    await cluster.withdraw_route(cluster.routes()[wanted.model])
    await cluster.withdraw_route(published)
    assert wanted.model not in cluster.routes()
    assert "NotFound" in plane.kubectl("get", "modelroute", wanted.name, "-n", namespace, check=False)


async def test_a_route_that_changed_since_is_not_withdrawn(
    plane: RunningControlPlane, cluster: KubernetesCluster, namespace: str
) -> None:
    await cluster.publish_route(route_of(namespace))
    planned_from = cluster.routes()[ModelKey(namespace, "assistant")]
    await cluster.publish_route(replace(planned_from, names=("assistant",)))

    with pytest.raises(DoorError) as refused:
        await cluster.withdraw_route(planned_from)

    assert refused.value.code == "Conflict"


async def test_a_route_is_published_only_on_the_version_it_was_planned_from(
    cluster: KubernetesCluster, namespace: str
) -> None:
    await cluster.publish_route(route_of(namespace))
    planned_from = cluster.routes()[ModelKey(namespace, "assistant")]
    await cluster.publish_route(replace(planned_from, names=("assistant",)))
    now = cluster.routes()[planned_from.model]

    for late in (replace(planned_from, names=("late",)), route_of(namespace, names=("late",))):
        with pytest.raises(DoorError) as refused:
            await cluster.publish_route(late)
        assert refused.value.code in {"Conflict", "AlreadyExists"}
    await cluster.withdraw_route(now)
    with pytest.raises(DoorError) as refused:
        await cluster.publish_route(replace(now, names=("late",)))

    assert refused.value.code == "Conflict"
    assert cluster.routes() == {}


async def test_a_route_that_is_changed_by_hand_is_told_and_can_be_undone(
    plane: RunningControlPlane, cluster: KubernetesCluster, pokes: list[str], namespace: str
) -> None:
    wanted = route_of(namespace)
    await cluster.publish_route(wanted)
    pokes.clear()

    plane.kubectl("patch", "modelroute", wanted.name, "-n", namespace, "--type=merge", '-p={"spec":{"names":[]}}')
    await until(lambda: pokes, "the change was told")
    await cluster.publish_route(replace(wanted, resource_version=cluster.routes()[wanted.model].resource_version))

    assert cluster.routes()[wanted.model].names == wanted.names


async def test_a_pool_that_vanished_unseen_is_dropped_by_the_next_list(
    plane: RunningControlPlane, settings: KubeSettings, namespace: str
) -> None:
    pool = {
        "apiVersion": "roadstead.dev/v1alpha1",
        "kind": "WorkerPool",
        "metadata": {"name": namespace},
        "spec": {"engines": [{"engine": "LlamaCpp", "image": "xllamacpp==1"}]},
    }
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(pool))
    often = replace(settings, relist_seconds=0.2)
    async with KubernetesCluster.connect(often, poke=lambda _: None) as cluster:
        await until(lambda: namespace in {pool.name for pool in cluster.pools()}, "the pool is known")

        plane.kubectl("delete", "workerpool", namespace)

        await until(lambda: namespace not in {pool.name for pool in cluster.pools()}, "the pool was dropped")


async def test_without_kubeconfig_and_outside_a_pod_the_error_says_so(
    settings: KubeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)

    with pytest.raises(DoorError, match="no way to an API server"):
        async with KubernetesCluster.connect(replace(settings, kubeconfig=None), poke=lambda _: None):
            pass


async def test_what_a_driver_publishes_about_a_nodes_devices_is_known_by_node(
    plane: RunningControlPlane, cluster: KubernetesCluster, pokes: list[str]
) -> None:
    published = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": "devices-of-a"},
        "spec": {
            "driver": "gpu.nvidia.com",
            "nodeName": "node-a",
            "pool": {"name": "node-a", "generation": 1, "resourceSliceCount": 1},
            "devices": [
                {
                    "name": "gpu-0",
                    "attributes": {"type": {"string": "gpu"}, "cudaComputeCapability": {"version": "8.9.0"}},
                    "capacity": {"memory": {"value": "46068Mi"}},
                }
            ],
        },
    }
    plane.kubectl("create", "-f", "-", stdin=json.dumps(published))

    await until(lambda: "node-a" in cluster.device_slices(), "the slice is known")
    (found,) = cluster.device_slices()["node-a"]
    assert (found.driver, found.devices[0].capacity) == ("gpu.nvidia.com", (("memory", 46068 * 1024**2),))
    assert "ResourceSlice devices-of-a new" in pokes
    plane.kubectl("delete", "resourceslice", "devices-of-a")
    await until(lambda: not cluster.device_slices(), "the slice is gone")
