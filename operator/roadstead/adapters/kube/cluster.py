"""The ``Cluster`` port on a real API server.

To run it, in this order (Kopf cancels tasks that were born after it started, see ``handlers/edge.py``)::

    async with KubernetesCluster.connect(settings, poke=trigger.poke) as cluster:
        leadership = cluster.leadership(lease, doors=highest_epoch, lost=end_the_process)
        ...                                     # create the tasks of the loop, the Lease and health
        await edge.serve(models=cluster.deliver_model, pools=cluster.deliver_pool, login=cluster.kopf_credentials)
        ...                                     # asked to end: let the last action end, then release the Lease

Readers answer from memory. After a write the answer goes into the same memory, so the next turn does not repeat it; a
watch event that is newer wins. Reading and writing belong to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import kopf

from roadstead.adapters.kube import parse, render, revisions
from roadstead.adapters.kube.api import Api, Object, connected
from roadstead.adapters.kube.lease import Leadership, LeaseSettings
from roadstead.adapters.kube.reflector import Reflector, Resource
from roadstead.adapters.kube.resources import LOCAL_MODEL, MODEL_ROUTE, WORKER_POOL
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.adapters.kube.store import Poke, Store
from roadstead.adapters.kube.watched import Watched
from roadstead.adapters.kube.writer import Writer
from roadstead.domain.model import Model, ModelKey
from roadstead.domain.plan import ModelReport
from roadstead.domain.release import Release
from roadstead.domain.snapshot import Node, Pool, Route


def _itself(value: object) -> object:
    return value


class KubernetesCluster:
    """Intent, releases, routes and nodes, as the API server has them."""

    def __init__(self, api: Api, settings: KubeSettings, *, poke: Poke) -> None:
        self._api = api
        self._namespace = settings.namespace
        watched = partial(Watched, api, settings=settings)
        reflected = partial(Reflector, api, settings=settings)
        self._models: Watched[parse.WatchedModel] = watched(
            Resource(name="localmodels", path=LOCAL_MODEL.path()),
            store=Store(
                LOCAL_MODEL.name,
                parse=partial(parse.local_model, finalizer=settings.finalizer),
                relevant=parse.relevant_of_model,
                poke=poke,
            ),
        )
        self._pools: Watched[Pool] = watched(
            Resource(name="workerpools", path=WORKER_POOL.path()),
            store=Store(WORKER_POOL.name, parse=parse.pool, relevant=_itself, poke=poke),
        )
        self._nodes: Reflector[Node] = reflected(
            Resource(name="nodes", path="/api/v1/nodes"),
            store=Store("Node", parse=parse.node, relevant=_itself, poke=poke),
        )
        self._pods: Reflector[parse.Pod] = reflected(
            Resource(
                name="pods",
                path=f"/api/v1/namespaces/{settings.namespace}/pods",
                query={"labelSelector": "app.kubernetes.io/part-of=roadstead"},
            ),
            store=Store("Pod", parse=parse.pod, relevant=_itself, poke=poke),
        )
        self._revisions: Reflector[revisions.Revision] = reflected(
            Resource(
                name="controllerrevisions",
                path="/apis/apps/v1/controllerrevisions",
                query={"labelSelector": revisions.MODEL_LABEL},
            ),
            store=Store("ControllerRevision", parse=revisions.from_object, relevant=_itself, poke=poke),
        )
        self._routes: Reflector[Route] = reflected(
            Resource(name="modelroutes", path=MODEL_ROUTE.path(namespace=settings.namespace)),
            store=Store(MODEL_ROUTE.name, parse=parse.route, relevant=render.told_to_gateways, poke=poke),
        )
        self._writer = Writer(
            api, settings, models=self._models.store, revisions=self._revisions.store, routes=self._routes.store
        )

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: KubeSettings, *, poke: Poke) -> AsyncIterator[KubernetesCluster]:
        """Connected and reading. If a reader dies of an error of ours, the block is cancelled and the error raised."""
        async with connected(settings) as api:
            cluster = cls(api, settings, poke=poke)
            try:
                async with asyncio.TaskGroup() as group:
                    readers = [
                        group.create_task(part.run(), name=f"kube {part.resource.name}") for part in cluster.sources
                    ]
                    try:
                        yield cluster
                    finally:
                        for reader in readers:
                            reader.cancel()
            except BaseExceptionGroup as errors:
                if len(errors.exceptions) == 1:
                    raise errors.exceptions[0] from None  # the block's own error, as it was raised
                raise

    # ── What is known ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def sources(self) -> tuple[Watched[Any] | Reflector[Any], ...]:
        """Everything that is kept up to date."""
        return (self._models, self._pools, self._nodes, self._pods, self._revisions, self._routes)

    @property
    def synced(self) -> bool:
        """Whether every list has been read once."""
        return all(source.store.synced for source in self.sources)

    def watch_ages(self) -> Mapping[str, float]:
        """By resource, seconds since the API server said anything; for what Kopf watches, since a list is overdue."""
        return {source.resource.name: source.silent_seconds for source in self.sources}

    def models(self) -> tuple[Model, ...]:
        return tuple(sorted((watched.model for watched in self._models.store.values()), key=lambda model: model.key))

    def pools(self) -> tuple[Pool, ...]:
        return tuple(sorted(self._pools.store.values(), key=lambda pool: pool.name))

    def nodes(self) -> Mapping[str, Node]:
        return {node.name: node for node in self._nodes.store.values()}

    def pods(self) -> tuple[parse.Pod, ...]:
        """Our own Pods, by which doors are found in a cluster."""
        return tuple(self._pods.store.values())

    def releases(self) -> Mapping[str, tuple[Release, ...]]:
        found: dict[str, list[Release]] = {}
        for revision in self._revisions.store.values():
            found.setdefault(revision.owner_uid, []).append(revision.release)
        return {uid: tuple(sorted(kept, key=lambda release: release.number)) for uid, kept in found.items()}

    def routes(self) -> Mapping[ModelKey, Route]:
        return {route.model: route for route in self._routes.store.values()}

    async def installation(self) -> str:
        """What names this cluster's history in the ledger: the uid of ``kube-system``, and our namespace."""
        system = await self._api.request("GET", "/api/v1/namespaces/kube-system")
        return f"{system['metadata']['uid']}/{self._namespace}"

    # ── Kopf's side ──────────────────────────────────────────────────────────────────────────────────────────────────

    def deliver_model(self, event_type: str | None, obj: Object) -> None:
        """An event of a LocalModel."""
        self._models.deliver(event_type, obj)

    def deliver_pool(self, event_type: str | None, obj: Object) -> None:
        """An event of a WorkerPool."""
        self._pools.deliver(event_type, obj)

    async def kopf_credentials(self) -> kopf.ConnectionInfo:
        """For Kopf's login: the same server, the same credentials."""
        return await self._api.kopf_credentials()

    # ── Leading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def leadership(
        self, settings: LeaseSettings, *, doors: Callable[[], Awaitable[int]], lost: Callable[[str], None]
    ) -> Leadership:
        """A candidate for the Lease, over the same connection."""
        return Leadership(self._api, settings, doors=doors, lost=lost)

    # ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def set_finalizer(self, model: Model) -> None:
        await self._writer.set_finalizer(model)

    async def clear_finalizer(self, model: Model) -> None:
        await self._writer.clear_finalizer(model)

    async def keep_release(self, model: Model, release: Release) -> None:
        await self._writer.keep_release(model, release)

    async def publish_route(self, route: Route) -> None:
        await self._writer.publish_route(route)

    async def withdraw_route(self, route: Route) -> None:
        await self._writer.withdraw_route(route)

    async def publish_status(self, report: ModelReport) -> None:
        await self._writer.publish_status(report)
