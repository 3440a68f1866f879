"""Kopf delivers, and writes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from roadstead.adapters.kube.cluster import KubernetesCluster
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.domain.model import Model
from roadstead.handlers import edge
from tests.contract.kube.conftest import local_model
from tests.fixtures.control_plane import RunningControlPlane
from tests.fixtures.kept_release import a_release
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract


@asynccontextmanager
async def with_kopf(settings: KubeSettings) -> AsyncIterator[KubernetesCluster]:
    """As the runtime runs it."""
    stop, ready = asyncio.Event(), asyncio.Event()
    async with KubernetesCluster.connect(settings, poke=lambda _: None) as connected:
        kopf = asyncio.create_task(
            edge.serve(
                models=connected.deliver_model,
                pools=connected.deliver_pool,
                login=connected.kopf_credentials,
                namespaces=settings.watch_namespaces,
                stop=stop,
                ready=ready,
            )
        )
        await asyncio.wait_for(ready.wait(), timeout=20)
        yield connected
        stop.set()
        await asyncio.wait_for(kopf, timeout=20)


def models_of(cluster: KubernetesCluster, namespace: str) -> list[Model]:
    return [model for model in cluster.models() if model.key.namespace == namespace]


async def test_kopf_delivers_every_change_and_writes_nothing_itself(
    plane: RunningControlPlane, settings: KubeSettings, namespace: str
) -> None:
    async with with_kopf(settings) as cluster:
        plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(local_model(namespace)))
        await until(lambda: models_of(cluster, namespace), "the model is known", seconds=20)
        await cluster.set_finalizer(models_of(cluster, namespace)[0])
        plane.kubectl("scale", "lm/assistant", "--replicas=3", "-n", namespace)
        await until(lambda: models_of(cluster, namespace)[0].generation == 2, "the change is known", seconds=20)

        metadata = json.loads(
            plane.kubectl("get", "lm/assistant", "-n", namespace, "-o", "json", "--show-managed-fields")
        )["metadata"]
        assert {entry["manager"] for entry in metadata["managedFields"]} == {"kubectl", "roadstead"}
        assert metadata["finalizers"] == ["roadstead.dev/finalizer"]
        assert "annotations" not in metadata

        plane.kubectl("delete", "lm/assistant", "-n", namespace, "--wait=false")
        await until(lambda: models_of(cluster, namespace)[0].deleting, "the deletion is known", seconds=20)
        await cluster.clear_finalizer(models_of(cluster, namespace)[0])
        await until(lambda: not models_of(cluster, namespace), "the model is gone", seconds=20)


async def test_what_else_runs_in_the_loop_outlives_kopf(settings: KubeSettings) -> None:
    """When it ends, Kopf cancels what was born in its loop: the turn under way, and the task that keeps the Lease."""
    finish = asyncio.Event()
    async with with_kopf(settings):
        turn = asyncio.create_task(finish.wait())
    finish.set()

    assert await turn is True


async def test_with_namespaces_only_their_models_are_seen_and_pools_still_are(
    plane: RunningControlPlane, settings: KubeSettings, namespace: str
) -> None:
    watched = tuple(f"{namespace}-{letter}" for letter in "ab")
    for each in watched:
        plane.kubectl("create", "namespace", each)
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(local_model(namespace)))
    async with with_kopf(replace(settings, watch_namespaces=watched)) as cluster:
        await until(lambda: cluster.synced, "every list was read", seconds=20)
        models = [local_model(each) for each in (*watched, namespace)]
        pool = {
            "apiVersion": "roadstead.dev/v1alpha1",
            "kind": "WorkerPool",
            "metadata": {"name": namespace},
            "spec": {"engines": [{"engine": "LlamaCpp", "image": "xllamacpp==1"}]},
        }
        plane.kubectl(
            "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*models, pool]})
        )
        await until(lambda: len(cluster.models()) == len(watched), "the models are known", seconds=20)
        await until(lambda: namespace in {pool.name for pool in cluster.pools()}, "the pool is known", seconds=20)

        for model in cluster.models():
            await cluster.set_finalizer(model)
            await cluster.keep_release(model, a_release(number=1))
            assert cluster.releases()[model.uid] == (a_release(number=1),)
        assert {model.key.namespace for model in cluster.models() if model.finalized} == set(watched)
        assert {f"localmodels in {each}" for each in watched} < cluster.watch_ages().keys()

        for model in cluster.models():
            plane.kubectl("delete", "lm/assistant", "-n", model.key.namespace, "--wait=false")
        await until(lambda: all(model.deleting for model in cluster.models()), "their end is asked for", seconds=20)
        for model in cluster.models():
            await cluster.clear_finalizer(model)
        await until(lambda: cluster.models() == (), "they are gone", seconds=20)
    plane.kubectl("delete", "workerpool", namespace)
