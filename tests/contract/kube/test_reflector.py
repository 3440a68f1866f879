"""No ghosts: whatever vanished while nobody watched is gone after the next list."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from roadstead.adapters.kube import parse, render
from roadstead.adapters.kube.api import connected
from roadstead.adapters.kube.reflector import Reflector, Resource
from roadstead.adapters.kube.resources import MODEL_ROUTE
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.adapters.kube.store import Store
from roadstead.domain.snapshot import Node, Route
from tests.fixtures.control_plane import RunningControlPlane
from tests.fixtures.patience import until
from tests.fixtures.severed import Severable, severable

pytestmark = pytest.mark.contract


@pytest.fixture
async def line(plane: RunningControlPlane) -> AsyncIterator[Severable]:
    """The connection of the reflector under test."""
    config = yaml.safe_load(plane.kubeconfig.read_text())
    server = urlsplit(config["clusters"][0]["cluster"]["server"])
    assert server.hostname is not None
    assert server.port is not None
    async with severable(server.hostname, server.port) as proxy:
        yield proxy


@pytest.fixture
def severed(plane: RunningControlPlane, settings: KubeSettings, line: Severable, tmp_path: Path) -> KubeSettings:
    """Settings that lead through the line."""
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{line.port}"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    return replace(settings, kubeconfig=kubeconfig)


@asynccontextmanager
async def running(reflector: Reflector[Any]) -> AsyncIterator[None]:
    task = asyncio.create_task(reflector.run())
    try:
        await until(lambda: reflector.store.synced, "the first list was read")
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def create_node(plane: RunningControlPlane, name: str) -> None:
    plane.kubectl(
        "create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    )


def names(store: Store[Node]) -> set[str]:
    return {node.name for node in store.values()}


async def test_a_node_deleted_in_a_gap_of_the_watch_is_dropped_by_the_next_list(
    plane: RunningControlPlane, severed: KubeSettings, line: Severable, namespace: str
) -> None:
    pokes: list[str] = []
    store = Store("Node", parse=parse.node, relevant=lambda node: node, poke=pokes.append)
    ghost, other = f"{namespace}-ghost", f"{namespace}-other"
    create_node(plane, ghost)
    async with connected(severed) as api:
        reflector = Reflector(api, Resource(name="nodes", path="/api/v1/nodes"), store, severed)
        async with running(reflector):
            assert ghost in names(store)
            line.cut()
            await until(lambda: not reflector._reachable, "the cut was noticed")
            plane.kubectl("delete", "node", ghost)
            create_node(plane, other)
            # The watch goes on after the deletion, so that its event never comes: the gap.
            found = json.loads(plane.kubectl("get", "nodes", "-o", "json"))
            reflector._version = str(max(int(node["metadata"]["resourceVersion"]) for node in found["items"]))
            line.mend()
            await until(lambda: reflector._reachable, "the watch was resumed")
            assert ghost in names(store)

            reflector._version = ""
            line.cut()
            line.mend()

            await until(lambda: ghost not in names(store), "the ghost is gone")
    assert f"Node {ghost} gone" in pokes
    assert other in names(store)


LATER = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "laters.example.org"},
    "spec": {
        "group": "example.org",
        "names": {"kind": "Later", "plural": "laters"},
        "scope": "Cluster",
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}


async def test_without_a_kind_that_is_optional_there_is_nothing_of_it_until_the_server_has_it(
    plane: RunningControlPlane, settings: KubeSettings
) -> None:
    store: Store[str] = Store("Later", parse=lambda obj: str(obj["metadata"]["name"]), poke=lambda _: None)
    quick = replace(settings, relist_seconds=0.2)
    kind = Resource(name="laters", path="/apis/example.org/v1/laters", optional=True)
    async with connected(quick) as api:
        reflector = Reflector(api, kind, store, quick)
        async with running(reflector):
            assert not list(store.values())
            assert reflector.silent_seconds < 1
            plane.kubectl("create", "-f", "-", stdin=json.dumps(LATER))
            plane.kubectl("wait", "--for=condition=Established", "crd", "laters.example.org", "--timeout=30s")
            one = {"apiVersion": "example.org/v1", "kind": "Later", "metadata": {"name": "one"}}
            plane.kubectl("create", "-f", "-", stdin=json.dumps(one))
            await until(lambda: set(store.values()) == {"one"}, "the kind that came is read")
            plane.kubectl("delete", "crd", "laters.example.org")
            await until(lambda: not list(store.values()), "of the kind that went there is nothing")


async def test_410_gone_leads_to_a_new_list_that_drops_what_vanished(
    plane: RunningControlPlane, severed: KubeSettings, line: Severable, namespace: str
) -> None:
    store: Store[Route] = Store("ModelRoute", parse=parse.route, relevant=render.told_to_gateways, poke=lambda _: None)
    route = {
        "apiVersion": "roadstead.dev/v1alpha1",
        "kind": "ModelRoute",
        "metadata": {"name": "ghost", "namespace": namespace},
        "spec": {"model": "a/ghost", "task": "Chat"},
    }
    plane.kubectl("create", "-f", "-", stdin=json.dumps(route))
    async with connected(severed) as api:
        resource = Resource(name="modelroutes", path=MODEL_ROUTE.path(namespace=namespace))
        reflector = Reflector(api, resource, store, severed)
        async with running(reflector):
            assert len(store) == 1
            line.cut()
            await until(lambda: not reflector._reachable, "the cut was noticed")
            plane.kubectl("delete", "modelroute", "ghost", "-n", namespace)
            reflector._version = "1"  # from before the kind existed: the API server answers 410
            line.mend()

            await until(lambda: len(store) == 0, "the ghost is gone")


async def test_what_changes_is_followed_and_a_heartbeat_wakes_nobody(
    plane: RunningControlPlane, settings: KubeSettings, namespace: str
) -> None:
    pokes: list[str] = []
    store = Store("Node", parse=parse.node, relevant=lambda node: node, poke=pokes.append)
    async with connected(settings) as api:
        reflector = Reflector(api, Resource(name="nodes", path="/api/v1/nodes"), store, settings)
        async with running(reflector):
            create_node(plane, namespace)
            await until(lambda: namespace in names(store), "the node is known")
            plane.kubectl("label", "node", namespace, "disktype=nvme")

            def labelled() -> bool:
                stored = store.get(("", namespace))
                return stored is not None and ("disktype", "nvme") in stored.value.labels

            await until(labelled, "the label is known")
            before = (store.get(("", namespace)), len(pokes))

            beat = {"status": {"conditions": [{"type": "DiskPressure", "status": "False", "reason": "Beat"}]}}
            plane.kubectl(
                "patch", "node", namespace, "--subresource=status", "--type=strategic", f"-p={json.dumps(beat)}"
            )
            await until(lambda: store.get(("", namespace)) != before[0], "the heartbeat came")

            assert [poke for poke in pokes[before[1] :] if namespace in poke] == []
            assert reflector.silent_seconds < 10


async def test_a_watch_that_is_silent_for_too_long_is_opened_anew(
    plane: RunningControlPlane, settings: KubeSettings, namespace: str
) -> None:
    store: Store[Route] = Store("ModelRoute", parse=parse.route, relevant=render.told_to_gateways, poke=lambda _: None)
    impatient = replace(settings, silence_seconds=0.3)
    async with connected(impatient) as api:
        resource = Resource(name="modelroutes", path=MODEL_ROUTE.path(namespace=namespace))
        reflector = Reflector(api, resource, store, impatient)
        async with running(reflector):
            await until(lambda: not reflector._reachable, "the silence was noticed")
