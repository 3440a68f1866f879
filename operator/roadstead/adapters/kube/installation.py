"""What one release of the chart has in the API server, for taking it down: lists made on the spot, and removals.

Not the ``Cluster`` port: that one answers from memory, which Kopf and the watches of a whole operator keep fresh. A Job
that runs once asks the API server, and needs no right to watch anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from roadstead.adapters.kube import render
from roadstead.adapters.kube.api import APPLY, MERGE, Api, ApiRefused, Object
from roadstead.adapters.kube.parse import WatchedModel, local_model
from roadstead.adapters.kube.pods import COMPONENT_LABEL, POOL_LABEL
from roadstead.adapters.kube.resources import LOCAL_MODEL, MODEL_ROUTE
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.domain.model import Model
from roadstead.domain.plan import ModelReport
from roadstead.domain.workload import PodRole
from roadstead.ports import DoorError

KOPF_FINALIZER: Final = "roadstead.dev/kopf"
"""Kopf's own (``handlers/edge.py`` names it): it is never set as long as all handlers are ``on.event``."""
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_TRIES: Final = 5


class KubernetesInstallation:
    """Answers to the port ``Installation``. Removals of what is gone are success."""

    def __init__(self, api: Api, settings: KubeSettings, *, release: str) -> None:
        self._api = api
        self._settings = settings
        self._release = release
        self._listed: dict[str, WatchedModel] = {}
        """By uid: each LocalModel as it was last read or written."""

    # ── Operators and their Lease ────────────────────────────────────────────────────────────────────────────────────

    async def stop_operators(self) -> None:
        """Scale their Deployment to none."""
        try:
            await self._api.request(
                "PATCH",
                f"{self._path('/apis/apps/v1', 'deployments')}/{self._release}-operator/scale",
                query={"fieldManager": self._settings.field_manager},
                body={"spec": {"replicas": 0}},
                content_type=MERGE,
            )
        except ApiRefused as refusal:
            if refusal.status != _NOT_FOUND:
                raise

    async def operators(self) -> tuple[str, ...]:
        """Names of their Pods."""
        return await self._names("/api/v1", "pods", f"{self._instance},{COMPONENT_LABEL}=operator")

    async def forget_lease(self) -> None:
        """Delete it."""
        await self._delete(self._path("/apis/coordination.k8s.io/v1", "leases"), f"{self._release}-operator")

    # ── What the operator made ───────────────────────────────────────────────────────────────────────────────────────

    async def routes(self) -> tuple[str, ...]:
        """Names of the ModelRoutes."""
        return _names(await self._list(MODEL_ROUTE.path(namespace=self._settings.namespace)))

    async def withdraw_route(self, name: str) -> None:
        """Delete it: gateways stop sending."""
        await self._delete(MODEL_ROUTE.path(namespace=self._settings.namespace), name)

    async def budgets(self) -> tuple[str, ...]:
        """Names of the PodDisruptionBudgets of agents and workers."""
        return await self._names("/apis/policy/v1", "poddisruptionbudgets", self._made_by_the_operator(*PodRole))

    async def remove_budget(self, name: str) -> None:
        await self._delete(self._path("/apis/policy/v1", "poddisruptionbudgets"), name)

    async def pods(self, role: PodRole) -> tuple[str, ...]:
        """Names of the Pods of this role, also those that are ending."""
        return await self._names("/api/v1", "pods", self._made_by_the_operator(role))

    async def remove_pod(self, name: str, *, grace_seconds: int) -> None:
        """Delete it; one that is ending already keeps what it has left, unless that is more."""
        await self._delete(self._path("/api/v1", "pods"), name, options={"gracePeriodSeconds": grace_seconds})

    async def records(self) -> tuple[str, ...]:
        """Names of the ConfigMaps in which adopted images are kept."""
        return await self._names("/api/v1", "configmaps", f"{self._made_by_the_operator('operator')},{POOL_LABEL}")

    async def remove_record(self, name: str) -> None:
        await self._delete(self._path("/api/v1", "configmaps"), name)

    async def tests(self) -> tuple[str, ...]:
        """Names of the Pods that ``helm test`` left."""
        return await self._names("/api/v1", "pods", f"{self._instance},{COMPONENT_LABEL}=test")

    # ── LocalModels ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def models(self) -> tuple[Model, ...]:
        """All that this release looks after."""
        found: list[WatchedModel] = []
        for namespace in self._settings.watch_namespaces or (None,):
            found += [self._parsed(obj) for obj in await self._list(LOCAL_MODEL.path(namespace=namespace))]
        self._listed = {watched.model.uid: watched for watched in found}
        return tuple(watched.model for watched in found)

    async def tell(self, report: ModelReport) -> None:
        """Apply ``status``, which no longer names an address; true of whatever a person has meanwhile asked for."""
        key = report.model.key
        for _ in range(_TRIES):
            listed = self._listed.get(report.model.uid)
            if listed is None:
                return
            current = replace(report, model=listed.model)
            wanted = render.status(current, published=listed.status, now=datetime.now(UTC), url=None)
            if render.same_status(wanted, listed.status):
                return
            body = render.local_model_status(current, wanted, resource_version=listed.model.resource_version)
            path = LOCAL_MODEL.path(namespace=key.namespace, name=key.name, subresource="status")
            if await self._written(report.model, path, body, content_type=APPLY):
                return
        raise DoorError("Conflict", f"LocalModel {key} was written by others each of {_TRIES} times")

    async def let_go(self, model: Model) -> None:
        """Take our finalizers off."""
        ours = {self._settings.finalizer, KOPF_FINALIZER}
        for _ in range(_TRIES):
            listed = self._listed.get(model.uid)
            if listed is None or not ours & set(listed.finalizers):
                return
            metadata = {
                "uid": model.uid,
                "resourceVersion": listed.model.resource_version,
                "finalizers": [name for name in listed.finalizers if name not in ours],
            }
            path = LOCAL_MODEL.path(namespace=model.key.namespace, name=model.key.name)
            if await self._written(model, path, {"metadata": metadata}, content_type=MERGE):
                return
        raise DoorError("Conflict", f"LocalModel {model.key} was written by others each of {_TRIES} times")

    async def _written(self, model: Model, path: str, body: Object, *, content_type: str) -> bool:
        """Whether nothing is left to do: it was written, or is gone. If somebody else wrote, it is read anew."""
        force = {"force": "true"} if content_type == APPLY else {}
        try:
            answer = await self._api.request(
                "PATCH",
                path,
                query={"fieldManager": self._settings.field_manager, **force},
                body=body,
                content_type=content_type,
            )
        except ApiRefused as refusal:
            if refusal.status == _NOT_FOUND:
                self._listed.pop(model.uid, None)
                return True
            if refusal.status != _CONFLICT:
                raise
            await self._read_anew(model)
            return False
        self._listed[model.uid] = self._parsed(answer)
        return True

    async def _read_anew(self, model: Model) -> None:
        self._listed.pop(model.uid, None)
        try:
            found = await self._api.request("GET", LOCAL_MODEL.path(namespace=model.key.namespace, name=model.key.name))
        except ApiRefused as refusal:
            if refusal.status != _NOT_FOUND:
                raise
            return
        if found["metadata"]["uid"] == model.uid:
            self._listed[model.uid] = self._parsed(found)

    def _parsed(self, obj: Object) -> WatchedModel:
        return local_model(obj, finalizer=self._settings.finalizer)

    # ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _instance(self) -> str:
        return f"app.kubernetes.io/instance={self._release}"

    def _made_by_the_operator(self, *components: str) -> str:
        return (
            f"{self._instance},app.kubernetes.io/managed-by=roadstead,"
            f"{COMPONENT_LABEL} in ({','.join(sorted(components))})"
        )

    def _path(self, group: str, plural: str) -> str:
        return f"{group}/namespaces/{self._settings.namespace}/{plural}"

    async def _names(self, group: str, plural: str, selector: str) -> tuple[str, ...]:
        return _names(await self._list(self._path(group, plural), selector=selector))

    async def _list(self, path: str, *, selector: str = "") -> list[Object]:
        objects, _ = await self._api.list(path, query={"labelSelector": selector} if selector else None)
        return objects

    async def _delete(self, collection: str, name: str, *, options: Object | None = None) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **options} if options else None
        try:
            await self._api.request("DELETE", f"{collection}/{name}", body=body)
        except ApiRefused as refusal:
            if refusal.status != _NOT_FOUND:
                raise


def _names(objects: Iterable[Object]) -> tuple[str, ...]:
    return tuple(sorted(obj["metadata"]["name"] for obj in objects))
