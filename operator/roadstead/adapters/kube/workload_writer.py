"""Everything that is written for the Pods of a pool: claims, Pods, their budgets, what was adopted, the pool's status.

Each write is idempotent and its answer goes into the store at once, so that the next turn does not repeat it. Nothing
that exists is ever changed but the record of adopted images and the status: a Pod that should be another one is another
Pod.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from roadstead.adapters.kube import pods, pools
from roadstead.adapters.kube.api import APPLY, Api, ApiRefused, Object
from roadstead.adapters.kube.owned import Named, Pod
from roadstead.adapters.kube.pools import Adoption, WatchedPool
from roadstead.adapters.kube.render import same_status
from roadstead.adapters.kube.resources import WORKER_POOL
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.adapters.kube.store import Store, Stored
from roadstead.adapters.kube.workloads import Workloads
from roadstead.domain.plan import PoolReport
from roadstead.domain.snapshot import EngineBuild
from roadstead.domain.workload import ClaimWish, PodRole, PodWish
from roadstead.ports import DoorError

_log = structlog.get_logger(__name__)
_FORBIDDEN, _NOT_FOUND, _CONFLICT = 403, 404, 409


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadStores:
    """What is known of the objects that are written here."""

    pools: Store[WatchedPool]
    pods: Store[Pod]
    claims: Store[Named]
    budgets: Store[Named]
    adoptions: Store[Adoption]


class WorkloadWriter:
    """Writes, each idempotent and within the request timeout; raises ``DoorError``."""

    def __init__(
        self,
        api: Api,
        settings: KubeSettings,
        *,
        workloads: Workloads | None,
        stores: WorkloadStores,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._settings = settings
        self._workloads = workloads
        self._stores = stores
        self._clock = clock
        self._status_forbidden = False

    async def keep_claim(self, claim: ClaimWish) -> None:
        """Create the claim; one that exists is success, whatever it looks like."""
        if self._stores.claims.get((self._settings.namespace, claim.name)) is None:
            wanted = pods.claim(claim, self._chart, namespace=self._settings.namespace)
            self._stores.claims.put(await self._created("/api/v1", "persistentvolumeclaims", wanted))

    async def run_pod(self, pod: PodWish) -> None:
        """Create the Pod; one of that name is success, unless it is none of ours."""
        if self._stores.pods.get((self._settings.namespace, pod.name)) is not None:
            return
        head = self._chart.cells.get(pod.worker.cell)
        if head is None:
            raise DoorError(
                "InvalidSpec",
                f"WorkerPool {pod.pool}: spec.workers.cell {pod.worker.cell!r} is no cell of this release; "
                f"there is {', '.join(sorted(self._chart.cells))}",
            )
        pool_uid = self._pool(pod.pool).uid
        wanted = pods.pod(pod, self._chart, namespace=self._settings.namespace, pool_uid=pool_uid, head=head)
        answer = await self._created("/api/v1", "pods", wanted)
        owners = [owner["uid"] for owner in answer["metadata"].get("ownerReferences", ())]
        if pool_uid not in owners:
            raise DoorError(
                "NameTaken",
                f"Pod {self._settings.namespace}/{pod.name} is not of WorkerPool {pod.pool} as it is now; "
                "remove it if nobody needs it",
            )
        self._stores.pods.put(answer)

    async def remove_pod(self, name: str, *, uid: str, grace_seconds: int | None) -> None:
        """Delete the Pod if it still is this one; one that is gone, or another, is success."""
        options: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            **({} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}),
        }
        answer = await self._deleted("/api/v1", "pods", name, options)
        key = (self._settings.namespace, name)
        stored = self._stores.pods.get(key)
        if answer is not None and answer.get("kind") == "Pod":
            self._stores.pods.put(answer)  # it ends: its deletion timestamp is news
        elif stored is not None and stored.uid == uid:
            self._stores.pods.forget(key)

    async def protect_pod(self, name: str) -> None:
        """Create the PodDisruptionBudget for the Pod of that name; one that exists is success."""
        key = (self._settings.namespace, name)
        if self._stores.budgets.get(key) is not None:
            return
        pod = self._stores.pods.get(key)
        if pod is None:
            raise DoorError("NotFound", f"Pod {name} is gone: there is nothing to protect")
        wanted = pods.budget(
            name,
            PodRole(pod.value.component),
            self._chart,
            namespace=self._settings.namespace,
            owners=pods.owned_by(pod.value.pool, self._pool(pod.value.pool).uid),
        )
        self._stores.budgets.put(await self._created("/apis/policy/v1", "poddisruptionbudgets", wanted))

    async def unprotect_pod(self, name: str) -> None:
        """Delete the PodDisruptionBudget; one that is gone is success."""
        await self._deleted("/apis/policy/v1", "poddisruptionbudgets", name, None)
        self._stores.budgets.forget((self._settings.namespace, name))

    async def record_adoption(self, pool: str, engines: tuple[EngineBuild, ...]) -> None:
        """Apply the ConfigMap that keeps what was adopted."""
        wanted = pools.adoption(
            pool,
            engines,
            self._chart,
            namespace=self._settings.namespace,
            pool_uid=self._pool(pool).uid,
        )
        answer = await self._api.request(
            "PATCH",
            self._path("/api/v1", "configmaps", wanted["metadata"]["name"]),
            query={"fieldManager": self._settings.field_manager, "force": "true"},
            body=wanted,
            content_type=APPLY,
        )
        self._stores.adoptions.put(answer)

    async def publish_pool(self, report: PoolReport) -> None:
        """Apply ``status``.

        Skipped where nothing but time would change, where the pool is gone or is another one now and, after a first
        refusal, where the operator's role does not reach it: the read API tells the same.
        """
        stored = self._stores.pools.get(("", report.pool.name))
        if stored is None or stored.uid != report.pool.uid or self._status_forbidden:
            return
        wanted = pools.status(report, now=self._clock())
        if same_status(wanted, stored.value.status):
            return
        try:
            answer = await self._api.request(
                "PATCH",
                WORKER_POOL.path(name=report.pool.name, subresource="status"),
                query={"fieldManager": self._settings.field_manager, "force": "true"},
                body=pools.pool_status(report, wanted, resource_version=stored.version),
                content_type=APPLY,
            )
        except ApiRefused as refusal:
            if refusal.status == _FORBIDDEN:
                self._status_forbidden = True
                _log.info("pool status is not written", why=refusal.message)
                return
            if refusal.status != _NOT_FOUND:
                raise
            return
        self._stores.pools.put(answer)

    @property
    def _chart(self) -> Workloads:
        if self._workloads is None:
            raise DoorError("NoWorkloads", "this operator makes no Pods: ROADSTEAD_WORKLOADS_FILE is not set")
        return self._workloads

    def _pool(self, name: str) -> Stored[WatchedPool]:
        stored = self._stores.pools.get(("", name))
        if stored is None:
            raise DoorError("NotFound", f"WorkerPool {name} is gone")
        return stored

    def _path(self, group: str, plural: str, name: str = "") -> str:
        path = f"{group}/namespaces/{self._settings.namespace}/{plural}"
        return f"{path}/{name}" if name else path

    async def _created(self, group: str, plural: str, wanted: Object) -> Object:
        """The object as it is now: ours, or the one that was there before."""
        try:
            return await self._api.request(
                "POST",
                self._path(group, plural),
                query={"fieldManager": self._settings.field_manager},
                body=wanted,
            )
        except ApiRefused as refusal:
            if refusal.status != _CONFLICT or refusal.code != "AlreadyExists":
                raise
        return await self._api.request("GET", self._path(group, plural, wanted["metadata"]["name"]))

    async def _deleted(self, group: str, plural: str, name: str, options: Object | None) -> Object | None:
        """The API server's answer; None where the object, or the one of that uid, is gone already."""
        try:
            return await self._api.request("DELETE", self._path(group, plural, name), body=options)
        except ApiRefused as refusal:
            if refusal.status in {_NOT_FOUND, _CONFLICT}:  # a conflict: another uid
                return None
            raise
