"""An API server whose etcd was restored from a backup: versions go back, and what it tells then is what is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import pytest

from roadstead.adapters.kube.api import Api, ApiRefused
from roadstead.adapters.kube.reflector import Reflector, Resource, measure
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.adapters.kube.store import Store
from tests.fixtures.patience import until

K = TypeVar("K")
THINGS = Resource(name="things", path="/things")
SETTINGS = KubeSettings(retry_seconds=(0.001, 0.01))


@dataclass
class ScriptedApi:
    """Lists in order, the last one for ever; a watch tells its events, then refuses or stays open."""

    lists: list[tuple[dict[str, int], int]]
    events: list[tuple[str, int]] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    listed: int = 0
    watched_from: list[str] = field(default_factory=list)

    async def read_list(
        self, _path: str, *, query: Mapping[str, str], keep: Callable[[dict[str, Any]], K]
    ) -> tuple[list[K], str]:
        objects, version = self.lists[min(self.listed, len(self.lists) - 1)]
        self.listed += 1
        return [keep(thing(name, each)) for name, each in objects.items()], str(version)

    async def watch(
        self, _path: str, *, resource_version: str, opened: Callable[[], None], **_: object
    ) -> AsyncGenerator[dict[str, Any]]:
        self.watched_from.append(resource_version)
        if self.refusals:
            raise ApiRefused(status=self.refusals.pop(0), reason="Timeout", message="Too large resource version")
        opened()
        while self.events:
            name, version = self.events.pop(0)
            yield {"type": "MODIFIED", "object": thing(name, version)}
        await asyncio.Event().wait()


def thing(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version), "uid": f"{name}-uid"}, "value": version}


def new_store() -> Store[int]:
    return Store("Thing", parse=lambda obj: int(obj["value"]), poke=lambda _: None)


def known(store: Store[int]) -> dict[str, int]:
    return {key[1]: stored.value for key, stored in store._objects.items()}


async def measured(store: Store[int], *lists: tuple[dict[str, int], int]) -> ScriptedApi:
    api = ScriptedApi(lists=[*lists])
    await measure(cast("Api", api), THINGS, store)
    return api


@asynccontextmanager
async def following(api: ScriptedApi) -> AsyncGenerator[Store[int]]:
    store = new_store()
    task = asyncio.create_task(Reflector(cast("Api", api), THINGS, store, SETTINGS).run())
    try:
        yield store
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_list_that_is_older_is_believed_when_it_is_so_twice() -> None:
    store = new_store()
    await measured(store, ({"kept": 90, "made since": 95}, 100))

    api = await measured(store, ({"kept": 40, "deleted since": 30}, 50), ({"kept": 40, "deleted since": 30}, 50))

    assert api.listed == 2
    assert known(store) == {"kept": 40, "deleted since": 30}


async def test_a_list_that_is_older_only_once_changes_nothing() -> None:
    store = new_store()
    await measured(store, ({"kept": 90}, 100))

    await measured(store, ({}, 50), ({"kept": 90}, 101))

    assert known(store) == {"kept": 90}


async def test_an_ordinary_list_is_read_once() -> None:
    store = new_store()

    assert (await measured(store, ({"kept": 90}, 100))).listed == 1
    assert (await measured(store, ({"kept": 90}, 100))).listed == 1


@pytest.mark.parametrize(
    ("events", "refusals"),
    [([("kept", 20)], []), ([], [504])],
    ids=["the watch tells older things", "the watch refuses our version"],
)
async def test_a_watch_that_went_back_leads_to_a_new_list_at_once(
    events: list[tuple[str, int]], refusals: list[int]
) -> None:
    restored = ({"kept": 20}, 25)
    api = ScriptedApi(lists=[({"kept": 90, "made since": 95}, 100), restored], events=events, refusals=refusals)

    async with following(api) as store:
        await until(lambda: known(store) == {"kept": 20}, "the other history is known")
        await until(lambda: len(api.watched_from) == 2, "it is watched")

    assert api.watched_from == ["100", "25"]
