"""The ``Cluster`` port on a real API server.

To run it, in this order::

    async with KubernetesCluster.connect(settings, poke=trigger.poke, workloads=workloads) as cluster:
        leadership = cluster.leadership(lease, doors=highest_epoch, lost=end_the_process)
        ...                                     # once it is synced: lead, and take turns
        await edge.serve(models=cluster.deliver_model, pools=cluster.deliver_pool, login=cluster.kopf_credentials)
        ...                                     # asked to end: let the last action end, then release the Lease

Readers answer from memory. After a write the answer goes into the same memory, so the next turn does not repeat it; a
watch event that is newer wins. Reading and writing belong to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime

import kopf

from roadstead.adapters.kube import owned, pods
from roadstead.adapters.kube.api import Api, Object, connected
from roadstead.adapters.kube.lease import Leadership, LeaseSettings
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.adapters.kube.sources import Sources
from roadstead.adapters.kube.store import Poke
from roadstead.adapters.kube.watched import deliver
from roadstead.adapters.kube.workload_writer import WorkloadStores, WorkloadWriter
from roadstead.adapters.kube.workloads import Workloads
from roadstead.adapters.kube.writer import Writer
from roadstead.domain import workload as domain
from roadstead.domain.inventory import DeviceSlice
from roadstead.domain.model import Model, ModelKey
from roadstead.domain.plan import ModelReport, PoolReport
from roadstead.domain.release import Release
from roadstead.domain.snapshot import EngineBuild, Node, Pool, Route
from roadstead.domain.workload import ClaimWish, NodePod, PodWish
from roadstead.ports import DoorError


class KubernetesCluster:
    """Intent, releases, routes, nodes and Pods, as the API server has them."""

    def __init__(self, api: Api, settings: KubeSettings, *, poke: Poke, workloads: Workloads | None = None) -> None:
        self._api = api
        self._namespace = settings.namespace
        self._workloads = pods.asked_for(workloads) if workloads is not None else None
        self._known = known = Sources(api, settings, makes_pods=workloads is not None, poke=poke)
        self._writer = Writer(api, settings, models=known.models, revisions=known.revisions, routes=known.routes)
        self._workload_writer = WorkloadWriter(
            api,
            settings,
            workloads=workloads,
            stores=WorkloadStores(
                pools=known.pools,
                pods=known.pods,
                claims=known.claims,
                budgets=known.budgets,
                adoptions=known.adoptions,
            ),
            clock=self.clock,
        )

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, settings: KubeSettings, *, poke: Poke, workloads: Workloads | None = None
    ) -> AsyncIterator[KubernetesCluster]:
        """Connected and reading. If a reader dies of an error of ours, the block is cancelled and the error raised.

        ``workloads`` is what the chart says about agents' and workers' Pods; None where they are not Pods.
        """
        async with connected(settings) as api:
            cluster = cls(api, settings, poke=poke, workloads=workloads)
            try:
                async with asyncio.TaskGroup() as group:
                    readers = [
                        group.create_task(part.run(), name=f"kube {part.resource.name}") for part in cluster._known.all
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

    def clock(self) -> datetime:
        """The time in UTC, by which everything is stamped and timed: the API server's."""
        return self._api.clock()

    async def put_clock_right(self, *, within_seconds: float) -> None:
        """By an answer of the API server, whatever it says; if it is away, by the first one that comes."""
        with suppress(DoorError):
            await self._api.request("GET", "/version", timeout_seconds=within_seconds, at_once=True)

    @property
    def synced(self) -> bool:
        """Whether every list has been read once."""
        return self._known.synced

    def watch_ages(self) -> Mapping[str, float]:
        """By resource, seconds since the API server said anything; for what Kopf watches, since a list is overdue."""
        return {source.resource.name: source.silent_seconds for source in self._known.all}

    def models(self) -> tuple[Model, ...]:
        return tuple(sorted((watched.model for watched in self._known.models.values()), key=lambda model: model.key))

    def pools(self) -> tuple[Pool, ...]:
        return tuple(sorted((watched.pool for watched in self._known.pools.values()), key=lambda pool: pool.name))

    def nodes(self) -> Mapping[str, Node]:
        return {node.name: node for node in self._known.nodes.values()}

    def device_slices(self) -> Mapping[str, tuple[DeviceSlice, ...]]:
        """By node, in an order of their own."""
        found: dict[str, list[DeviceSlice]] = {}
        for each in self._known.device_slices.values():
            if each.node:
                found.setdefault(each.node, []).append(each)
        return {node: tuple(sorted(slices, key=_by_pool)) for node, slices in found.items()}

    @property
    def workloads(self) -> domain.Workloads | None:
        """What the chart says about agents' and workers' Pods; None where they are not Pods."""
        return self._workloads

    def pods(self) -> tuple[NodePod, ...]:
        """Agents' and workers' Pods, also those that are being deleted."""
        found = (owned.node_pod(pod) for pod in self._known.pods.values())
        return tuple(sorted((pod for pod in found if pod is not None), key=lambda pod: pod.name))

    def doors(self) -> tuple[owned.Pod, ...]:
        """All Pods of ours, by which doors are found in a cluster."""
        return tuple(self._known.pods.values())

    def claims(self) -> frozenset[str]:
        """Names of the nodes' claims."""
        return frozenset(claim.name for claim in self._known.claims.values() if claim.is_weights_claim)

    def budgets(self) -> frozenset[str]:
        """Names of the PodDisruptionBudgets of agents and workers."""
        return frozenset(budget.name for budget in self._known.budgets.values())

    def adoptions(self) -> Mapping[str, tuple[EngineBuild, ...]]:
        """By pool; a record of an earlier pool of the same name is none."""
        uids = {pool.name: pool.uid for pool in self.pools()}
        return {
            adoption.pool: adoption.engines
            for adoption in self._known.adoptions.values()
            if uids.get(adoption.pool) == adoption.pool_uid
        }

    def releases(self) -> Mapping[str, tuple[Release, ...]]:
        found: dict[str, list[Release]] = {}
        for revision in self._known.revisions.values():
            found.setdefault(revision.owner_uid, []).append(revision.release)
        return {uid: tuple(sorted(kept, key=lambda release: release.number)) for uid, kept in found.items()}

    def routes(self) -> Mapping[ModelKey, Route]:
        return {route.model: route for route in self._known.routes.values()}

    async def installation(self) -> str:
        """What names this cluster's history in the ledger: the uid of ``kube-system``, and our namespace."""
        system = await self._api.request("GET", "/api/v1/namespaces/kube-system")
        return f"{system['metadata']['uid']}/{self._namespace}"

    # ── Kopf's side ──────────────────────────────────────────────────────────────────────────────────────────────────

    def deliver_model(self, event_type: str | None, obj: Object) -> None:
        """An event of a LocalModel."""
        deliver(self._known.models, event_type, obj)

    def deliver_pool(self, event_type: str | None, obj: Object) -> None:
        """An event of a WorkerPool."""
        deliver(self._known.pools, event_type, obj)

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

    async def forget_release(self, model: Model, number: int) -> None:
        await self._writer.forget_release(model, number)

    async def publish_route(self, route: Route) -> None:
        await self._writer.publish_route(route)

    async def withdraw_route(self, route: Route) -> None:
        await self._writer.withdraw_route(route)

    async def publish_status(self, report: ModelReport) -> None:
        await self._writer.publish_status(report)

    async def publish_pool(self, report: PoolReport) -> None:
        await self._workload_writer.publish_pool(report)

    async def record_adoption(self, pool: str, engines: tuple[EngineBuild, ...]) -> None:
        await self._workload_writer.record_adoption(pool, engines)

    async def keep_claim(self, claim: ClaimWish) -> None:
        await self._workload_writer.keep_claim(claim)

    async def run_pod(self, pod: PodWish) -> None:
        await self._workload_writer.run_pod(pod)

    async def remove_pod(self, name: str, *, uid: str, grace_seconds: int | None) -> None:
        await self._workload_writer.remove_pod(name, uid=uid, grace_seconds=grace_seconds)

    async def protect_pod(self, name: str) -> None:
        await self._workload_writer.protect_pod(name)

    async def unprotect_pod(self, name: str) -> None:
        await self._workload_writer.unprotect_pod(name)


def _by_pool(each: DeviceSlice) -> tuple[str, str, int, tuple[str, ...]]:
    return (each.driver, each.pool, each.generation, tuple(device.name for device in each.devices))
