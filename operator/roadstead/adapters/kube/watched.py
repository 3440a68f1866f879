"""LocalModels and WorkerPools: delivered by Kopf, measured by a list.

Kopf watches and delivers single events (``roadstead.handlers``). What it cannot tell is what vanished while nobody
watched; so a list at the start, and one every ten minutes, is the measure: what it does not hold is dropped. Our
finalizer keeps a LocalModel from vanishing before we have seen its end, so the list is the second line for models and
the first for pools.
"""

from __future__ import annotations

import asyncio
import time
from typing import Generic, Never, TypeVar

import structlog

from roadstead.adapters.kube.api import Api, ApiRefused, Object
from roadstead.adapters.kube.namespaced import NamespacedStores
from roadstead.adapters.kube.reflector import Backoff, Resource, measure
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.adapters.kube.store import Store
from roadstead.ports import DoorError

T = TypeVar("T")

_log = structlog.get_logger(__name__)
_NOT_FOUND = 404


class Watched(Generic[T]):
    """A kind that somebody else watches. ``run`` is to be one task's whole life."""

    def __init__(self, api: Api, resource: Resource, store: Store[T], settings: KubeSettings) -> None:
        self.resource = resource
        self.store = store
        self._api = api
        self._settings = settings
        self._backoff = Backoff(*settings.retry_seconds)
        self._heard = time.monotonic()

    @property
    def silent_seconds(self) -> float:
        """How long the measure is overdue; Kopf looks after the silence of its own watches."""
        return max(0.0, time.monotonic() - self._heard - self._settings.relist_seconds)

    async def run(self) -> Never:
        """List now and every ``relist_seconds``, until cancelled."""
        while True:
            try:
                await self._list()
            except DoorError as error:
                _log.warning("list failed", resource=self.resource.name, code=error.code, why=_why(error))
                await self._backoff.wait()
            else:
                self._backoff.succeeded()
                await asyncio.sleep(self._settings.relist_seconds)

    async def _list(self) -> None:
        first = not self.store.synced
        changes, _ = await measure(self._api, self.resource, self.store)
        self._heard = time.monotonic()
        if changes and not first:
            _log.info("list told what no event had", resource=self.resource.name, objects=changes)


def _why(error: DoorError) -> str:
    if isinstance(error, ApiRefused) and error.status == _NOT_FOUND:
        return f"{error.message}; the API server does not know this kind: apply the chart's definitions, crds/"
    return error.message


def deliver(store: Store[T] | NamespacedStores[T], event_type: str | None, obj: Object) -> None:
    """An event as Kopf gives it: ``None`` for what it found when it began."""
    if event_type == "DELETED":
        store.drop(obj)
    else:
        store.put(obj)
