"""List, then watch, then list again: a faithful copy of one kind, ghosts excluded.

Guarantees: after ``synced`` the store holds what a list held; what vanished while nobody watched is dropped by the next
list (after "410 Gone", after ten minutes at the latest); a watch that is silent for longer than bookmarks allow is
opened anew. Any error of the connection is waited out with growing, jittered pauses; an error in our own code ends the
task, and with it the process, rather than leave it deaf.

Why not Kopf's index: after 410 Kopf lists again but does not compare, so a Node deleted in the gap stays for ever; the
planner would place replicas on it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Generic, Never, TypeVar

import structlog

from roadstead.adapters.kube.api import Api, ApiRefused
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.adapters.kube.store import Store, version_of
from roadstead.ports import DoorError

T = TypeVar("T")

_log = structlog.get_logger(__name__)
_GONE, _TIMED_OUT = 410, 504
_NOT_SERVED = frozenset({403, 404})
_SHORTEST_WATCH_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What is listed and watched."""

    name: str
    """For logs and health: ``nodes``."""
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    """Label or field selectors."""
    optional: bool = False
    """Whether an API server may lack the kind, or keep it from us. There is nothing of it then."""


class Backoff:
    """Pauses between tries: doubled each time, with full jitter, from the first again after a success."""

    def __init__(self, first_seconds: float, longest_seconds: float) -> None:
        self._first = first_seconds
        self._longest = longest_seconds
        self._next = first_seconds

    def succeeded(self) -> None:
        self._next = self._first

    async def wait(self) -> None:
        pause = self._next * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, hides nothing
        self._next = min(2 * self._next, self._longest)
        await asyncio.sleep(pause)


async def measure(api: Api, resource: Resource, store: Store[T]) -> tuple[int, str]:
    """List and replace; how many objects that changed, and the version to watch from.

    A list is read from the quorum, so one that is older than what was known when it was asked for is not late: etcd was
    restored from a backup, and counts its versions from there. It is asked for twice before that is believed.
    """
    before = store.latest
    objects, version = await api.read_list(resource.path, query=resource.query, keep=store.read)
    if int(version or 0) < before:
        _log.warning("versions went back", resource=resource.name, known=before, listed=version)
        objects, version = await api.read_list(resource.path, query=resource.query, keep=store.read)
        if int(version or 0) < before:
            _log.warning("another history", resource=resource.name, known=before, listed=version)
            store.begin_anew()
    return store.replace(objects, version), version


class Reflector(Generic[T]):
    """Keeps a store equal to the API server. ``run`` is to be one task's whole life."""

    def __init__(self, api: Api, resource: Resource, store: Store[T], settings: KubeSettings) -> None:
        self.resource = resource
        self.store = store
        self._api = api
        self._settings = settings
        self._backoff = Backoff(*settings.retry_seconds)
        self._version = ""
        """To watch from; empty asks for a list."""
        self._list_due = 0.0
        self._last_byte = time.monotonic()
        self._reachable = True
        self._served = True

    @property
    def silent_seconds(self) -> float:
        """Age of the last byte heard: list, event or bookmark. What is not served is asked for at long intervals."""
        expected = 0.0 if self._served else self._settings.relist_seconds
        return max(0.0, time.monotonic() - self._last_byte - expected)

    async def run(self) -> Never:
        """List and watch until cancelled."""
        while True:
            try:
                await self._turn()
            except DoorError as error:
                if self.resource.optional and isinstance(error, ApiRefused) and error.status in _NOT_SERVED:
                    await self._do_without(error)
                    continue
                if isinstance(error, ApiRefused) and error.status == _GONE:
                    _log.info("list anew", resource=self.resource.name, why=error.message)
                    self._version = ""
                    continue
                if isinstance(error, ApiRefused) and error.status == _TIMED_OUT:
                    self._version = ""  # "Too large resource version": the server has gone back behind ours
                if self._reachable:
                    self._reachable = False
                    _log.warning("watch interrupted", resource=self.resource.name, code=error.code, why=error.message)
                await self._backoff.wait()

    async def _do_without(self, error: ApiRefused) -> None:
        """Nothing is known of the kind, until it is asked for again."""
        if self._served:
            _log.info("done without", resource=self.resource.name, why=error.message)
        self._served = False
        self._version = ""
        self._heard()
        self.store.replace((), str(self.store.latest))
        await asyncio.sleep(self._settings.relist_seconds)

    async def _turn(self) -> None:
        now = time.monotonic()
        if not self._version or now >= self._list_due:
            await self._list()
        await self._watch(seconds=self._list_due - time.monotonic())

    async def _list(self) -> None:
        _, self._version = await measure(self._api, self.resource, self.store)
        self._served = True
        self._heard()
        self._list_due = time.monotonic() + self._settings.relist_seconds

    async def _watch(self, *, seconds: float) -> None:
        events = self._api.watch(
            self.resource.path,
            query=self.resource.query,
            resource_version=self._version,
            seconds=seconds,
            opened=self._heard,
        )
        began = time.monotonic()
        async with aclosing(events) as stream:
            async for event in stream:
                self._heard()
                if version_of(event["object"]) < int(self._version):
                    _log.info("list anew", resource=self.resource.name, why="the watch went back")
                    self._version = ""
                    return
                self._take(event["type"], event["object"])
        if time.monotonic() - began < _SHORTEST_WATCH_SECONDS:
            await self._backoff.wait()  # something between us and the server ends watches at once

    def _take(self, kind: str, obj: dict[str, Any]) -> None:
        match kind:
            case "ADDED" | "MODIFIED":
                self.store.put(obj)
            case "DELETED":
                self.store.drop(obj)
            case _:
                pass  # a bookmark: it only moves the version
        self._version = obj["metadata"]["resourceVersion"]

    def _heard(self) -> None:
        self._last_byte = time.monotonic()
        self._backoff.succeeded()
        if not self._reachable:
            self._reachable = True
            _log.info("watch resumed", resource=self.resource.name)
