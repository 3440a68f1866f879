"""The fault rig's proxy before an API server does what its faults say, and nothing where none is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from roadstead.adapters.kube.api import Api, ApiRefused, connected
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.ports import DoorError
from tests.faults.rig.api_proxy import ApiProxy, api_proxy
from tests.faults.rig.kube_calls import Call, Match
from tests.faults.rig.kube_faults import (
    Answer,
    BlackHole,
    CutAfter,
    CutBefore,
    Delay,
    Effect,
    Expired,
    Fault,
    HalfOpen,
    Repeated,
    Swapped,
    refusal,
)
from tests.fixtures.control_plane import RunningControlPlane
from tests.fixtures.patience import until
from tests.simulation.calls import Cut

pytestmark = pytest.mark.contract

CONFIGMAPS = Match(resource="configmaps")


@pytest.fixture
async def proxy(plane: RunningControlPlane) -> AsyncIterator[ApiProxy]:
    async with api_proxy(plane.kubeconfig) as proxy:
        yield proxy


@pytest.fixture
async def caller(proxy: ApiProxy, settings: KubeSettings, tmp_path: Path) -> AsyncIterator[Api]:
    """Somebody whose every call goes through the proxy."""
    kubeconfig = proxy.write_kubeconfig(tmp_path / "kubeconfig")
    async with connected(replace(settings, kubeconfig=kubeconfig, request_timeout_seconds=1)) as api:
        yield api


@dataclass
class Maps:
    """ConfigMaps of one namespace, by way of whoever asks."""

    api: Api
    path: str

    async def create(self, name: str) -> None:
        metadata = {"metadata": {"name": name}}
        await self.api.request("POST", self.path, body={"apiVersion": "v1", "kind": "ConfigMap", **metadata})

    async def names(self) -> list[str]:
        items, _ = await self.api.list(self.path)
        return sorted(item["metadata"]["name"] for item in items if item["metadata"]["name"] != "kube-root-ca.crt")


@pytest.fixture
def maps(caller: Api, namespace: str) -> Maps:
    return Maps(caller, f"/api/v1/namespaces/{namespace}/configmaps")


@pytest.fixture
def truth(api: Api, namespace: str) -> Maps:
    """The same, past the proxy."""
    return Maps(api, f"/api/v1/namespaces/{namespace}/configmaps")


async def test_calls_pass_and_are_recorded(proxy: ApiProxy, maps: Maps, truth: Maps, namespace: str) -> None:
    await maps.create("one")
    assert await maps.names() == await truth.names() == ["one"]
    with pytest.raises(ApiRefused, match="already exists"):
        await maps.create("one")

    assert [(str(call), call.mutating, call.status) for call in proxy.made(CONFIGMAPS)] == [
        (f"create configmaps {namespace}", True, 201),
        (f"list configmaps {namespace}", False, 200),
        (f"create configmaps {namespace}", True, 409),
    ]
    assert proxy.mutations == 2


@pytest.mark.parametrize(
    ("effect", "code", "done"),
    [
        (refusal(403), "Forbidden", False),
        (refusal(429, retry_after_seconds=0), "TooManyRequests", False),
        (refusal(503), "ServiceUnavailable", False),
        (CutBefore(), "ApiServerUnavailable", False),
        (CutAfter(), "ApiServerUnavailable", True),
    ],
)
async def test_a_fault_hits_as_often_as_it_says(
    proxy: ApiProxy, maps: Maps, truth: Maps, *, effect: Effect, code: str, done: bool
) -> None:
    with proxy.failing(Fault(match=Match(verbs=("create",)), effect=effect, times=1)):
        with pytest.raises(DoorError, match=code):
            await maps.create("one")
        assert await truth.names() == (["one"] if done else [])
        await maps.create("two")


async def test_a_black_hole_answers_nothing_until_it_is_over(proxy: ApiProxy, maps: Maps, truth: Maps) -> None:
    with proxy.failing(Fault(match=CONFIGMAPS, effect=BlackHole())):
        with pytest.raises(DoorError, match="TimeoutError"):
            await maps.create("one")
        late = asyncio.create_task(maps.create("two"))
        await until(lambda: len(proxy.made(CONFIGMAPS)) == 2, "the second is asked too")
    with pytest.raises(DoorError, match="ApiServerUnavailable"):
        await late
    assert await truth.names() == []


async def test_a_delay_is_only_a_delay(proxy: ApiProxy, maps: Maps) -> None:
    with proxy.failing(Fault(match=CONFIGMAPS, effect=Delay(0.3))):
        began = asyncio.get_running_loop().time()
        await maps.create("one")
    assert asyncio.get_running_loop().time() - began > 0.3


async def test_an_old_list_is_an_answer_like_any_other(proxy: ApiProxy, maps: Maps, truth: Maps) -> None:
    old = await truth.api.request("GET", truth.path)
    await maps.create("one")
    stale = Answer(200, json.dumps(old).encode())
    with proxy.failing(Fault(match=Match(verbs=("list",)), effect=stale, times=1)):
        assert await maps.names() == []
        assert await maps.names() == ["one"]


@dataclass
class Heard:
    """What a watch told, and how it ended."""

    names: list[str] = field(default_factory=list)
    end: str = ""

    async def watch(self, maps: Maps, *, version: str) -> None:
        try:
            events = maps.api.watch(maps.path, query={}, resource_version=version, seconds=60, opened=lambda: None)
            async for event in events:
                if event["type"] != "BOOKMARK":
                    self.names.append(event["object"]["metadata"]["name"])
            self.end = "ended"
        except DoorError as error:
            self.end = error.code


@pytest.fixture
async def heard(proxy: ApiProxy, maps: Maps, truth: Maps) -> AsyncIterator[Heard]:
    """A watch by way of the proxy that stands."""
    heard = Heard()
    version: str = (await truth.api.request("GET", truth.path))["metadata"]["resourceVersion"]
    task = asyncio.create_task(heard.watch(maps, version=version))
    await until(lambda: proxy.watching(CONFIGMAPS), "the watch stands")
    yield heard
    task.cancel()
    await asyncio.wait([task])


async def test_a_watch_is_passed_on_as_it_comes(heard: Heard, truth: Maps) -> None:
    await truth.create("one")
    await until(lambda: "one" in heard.names, "the event is heard")


async def test_a_watch_that_is_half_open_never_speaks_again(proxy: ApiProxy, heard: Heard, truth: Maps) -> None:
    with proxy.failing(Fault(match=CONFIGMAPS, effect=HalfOpen())):
        await truth.create("one")
        await until(lambda: proxy.watching(CONFIGMAPS) == 0, "nothing is told any more")
    await truth.create("two")
    with pytest.raises(AssertionError):
        await until(lambda: "two" in heard.names, "an event", seconds=0.5)
    assert not heard.end


async def test_watches_end_with_or_without_a_word(proxy: ApiProxy, heard: Heard, maps: Maps) -> None:
    assert proxy.end_watches(CONFIGMAPS) == 1
    await until(lambda: heard.end == "ended", "it ends")

    again = asyncio.create_task(heard.watch(maps, version="0"))
    await until(lambda: proxy.watching(CONFIGMAPS), "the watch stands again")
    assert proxy.end_watches(CONFIGMAPS, expired=True) == 1
    await again
    assert heard.end == "Expired"

    with proxy.failing(Fault(match=CONFIGMAPS, effect=Expired(), times=1)):
        await heard.watch(maps, version="0")
    assert heard.end == "Expired"


@pytest.mark.parametrize(
    ("effect", "told"),
    [(Repeated(), ["one", "two", "one", "two"]), (Swapped(), ["two", "one"])],
)
async def test_events_are_told_twice_or_in_another_order(
    proxy: ApiProxy, heard: Heard, truth: Maps, effect: Effect, told: list[str]
) -> None:
    begun = len(heard.names)
    with proxy.failing(Fault(match=CONFIGMAPS, effect=effect)):
        await truth.create("one")
        await truth.create("two")
        await until(lambda: len(heard.names) >= begun + len(told), "the events are heard")
    assert [name for name in heard.names if name != "kube-root-ca.crt"] == told


@pytest.mark.parametrize(("side", "left"), [(Cut.BEFORE, ["one"]), (Cut.AFTER, ["one", "two"])])
async def test_the_caller_can_be_ended_at_any_write(
    proxy: ApiProxy, maps: Maps, truth: Maps, side: Cut, left: list[str]
) -> None:
    at_the_cut: list[list[str]] = []

    def second(number: int, call: Call) -> Cut | None:
        return side if number == 2 and call.resource == "configmaps" else None

    async def look() -> None:
        at_the_cut.append(await truth.names())

    proxy.on_mutation, proxy.cut = second, look
    await maps.create("one")
    with pytest.raises(DoorError, match="ApiServerUnavailable"):
        await maps.create("two")
    assert at_the_cut == [left]
    assert await truth.names() == left


async def test_a_lease_is_recorded_and_not_counted(proxy: ApiProxy, caller: Api, namespace: str) -> None:
    lease: dict[str, Any] = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "one"}}
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    await caller.request("POST", path, body=lease)
    assert proxy.mutations == 0
    assert [call.mutating for call in proxy.made(Match(resource="leases"))] == [True]


async def test_nobody_listens_while_it_is_down(proxy: ApiProxy, maps: Maps) -> None:
    await proxy.down()
    with pytest.raises(DoorError, match="ApiServerUnavailable"):
        await maps.names()
    await proxy.up()
    assert await maps.names() == []


async def test_it_may_speak_for_somebody_with_fewer_rights(
    plane: RunningControlPlane, settings: KubeSettings, namespace: str, tmp_path: Path
) -> None:
    async with api_proxy(plane.kubeconfig, as_user=f"system:serviceaccount:{namespace}:nobody") as proxy:
        kubeconfig = proxy.write_kubeconfig(tmp_path / "kubeconfig")
        async with connected(replace(settings, kubeconfig=kubeconfig)) as api:
            with pytest.raises(ApiRefused, match="cannot list") as refused:
                await Maps(api, f"/api/v1/namespaces/{namespace}/configmaps").names()
    assert refused.value.status == 403
