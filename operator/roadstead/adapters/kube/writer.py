"""Everything that is written about models: finalizers, releases, routes, status.

Each write is guarded. Finalizers and status carry the resource version that was planned from, so whoever writes late
gets a Conflict and plans again; where we ourselves wrote in between, from that very version, the :class:`WriteChain` of
our own versions is followed. The answer to a write goes into the store at once, so that the next turn does not repeat
it.
"""

from __future__ import annotations

import structlog

from roadstead.adapters.kube import render
from roadstead.adapters.kube import revisions as kept
from roadstead.adapters.kube.api import APPLY, MERGE, Api, ApiRefused, Object
from roadstead.adapters.kube.namespaced import NamespacedStores
from roadstead.adapters.kube.parse import WatchedModel
from roadstead.adapters.kube.resources import LOCAL_MODEL, MODEL_ROUTE
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.adapters.kube.store import Store, Stored
from roadstead.domain.model import Model
from roadstead.domain.plan import ModelReport
from roadstead.domain.release import Release
from roadstead.domain.snapshot import Route
from roadstead.ports import DoorError

_log = structlog.get_logger(__name__)
_NOT_FOUND, _CONFLICT = 404, 409


class WriteChain:
    """The versions that our own guarded writes led through, per object.

    A turn may set a finalizer and then publish a status, both planned from one version. The second write would conflict
    with the first, although nobody else wrote: each link is the answer to a write that named the link before it.
    """

    _LONGEST = 8

    def __init__(self) -> None:
        self._versions: dict[str, list[str]] = {}

    def latest(self, uid: str, version: str) -> str:
        """The version that ``version`` became by our own writes alone."""
        versions = self._versions.get(uid, [])
        return versions[-1] if version in versions else version

    def wrote(self, uid: str, *, before: str, after: str) -> None:
        """A write that named ``before`` was answered with ``after``."""
        versions = self._versions.get(uid, [])
        self._versions[uid] = [*(versions if versions and versions[-1] == before else [before]), after][
            -self._LONGEST :
        ]

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._versions.pop(uid, None)


class Writer:
    """Writes, each idempotent and within the request timeout; raises ``DoorError``."""

    def __init__(
        self,
        api: Api,
        settings: KubeSettings,
        *,
        models: NamespacedStores[WatchedModel],
        revisions: NamespacedStores[kept.Revision],
        routes: Store[Route],
    ) -> None:
        self._api = api
        self._settings = settings
        self._models = models
        self._revisions = revisions
        self._routes = routes
        self._chain = WriteChain()

    async def set_finalizer(self, model: Model) -> None:
        """Keep the object until ``clear_finalizer``."""
        stored = self._stored(model)
        if stored is None:
            raise DoorError("NotFound", f"LocalModel {model.key} is gone")
        if self._settings.finalizer not in stored.value.finalizers:
            await self._write_finalizers(model, (*stored.value.finalizers, self._settings.finalizer))

    async def clear_finalizer(self, model: Model) -> None:
        """Let the object go. One that is gone already is success."""
        stored = self._stored(model)
        if stored is None or self._settings.finalizer not in stored.value.finalizers:
            return
        others = tuple(name for name in stored.value.finalizers if name != self._settings.finalizer)
        try:
            await self._write_finalizers(model, others)
        except ApiRefused as refusal:
            if refusal.status != _NOT_FOUND:
                raise
            self._models.forget(model.key)
        if model.deleting and not others:
            self._models.forget(model.key)  # the API server removes it with its last finalizer
            self._chain.forget(model.uid)

    async def keep_release(self, model: Model, release: Release) -> None:
        """Store the release as a ControllerRevision; one that exists with the same contents is success."""
        name = kept.revision_name(model.key.name, release.number)
        stored = self._revisions.get((model.key.namespace, name))
        if stored is not None and _keeps(stored.value, model, release):
            return
        path = _revisions_of(model)
        try:
            answer = await self._api.request(
                "POST", path, query={"fieldManager": self._settings.field_manager}, body=kept.to_object(model, release)
            )
        except ApiRefused as refusal:
            if refusal.status != _CONFLICT:
                raise
            answer = await self._api.request("GET", f"{path}/{name}")
            if not _keeps(kept.from_object(answer), model, release):
                raise DoorError(
                    "ReleaseTaken",
                    f"ControllerRevision {model.key.namespace}/{name} is of other contents or of an earlier LocalModel "
                    "of this name, which garbage collection removes",
                ) from refusal
        self._revisions.put(answer)

    async def forget_release(self, model: Model, number: int) -> None:
        """Remove the ControllerRevision of a release of this very object. One that is gone already is success."""
        key = (model.key.namespace, kept.revision_name(model.key.name, number))
        stored = self._revisions.get(key)
        if stored is None or stored.value.owner_uid != model.uid:
            return
        await self._delete(f"{_revisions_of(model)}/{key[1]}", {"uid": stored.uid})
        self._revisions.forget(key)

    async def publish_route(self, route: Route) -> None:
        """Tell the gateways; nothing is written where they know already.

        Written on the version it was planned from, none being one: a leader that was paused meanwhile gets a Conflict.
        """
        namespace = self._settings.namespace
        stored = self._routes.get((namespace, route.name))
        if stored is not None and render.told_to_gateways(stored.value) == render.told_to_gateways(route):
            return
        version = route.resource_version or None
        if stored is None and version is not None:
            raise DoorError("Conflict", f"ModelRoute {namespace}/{route.name} was withdrawn since version {version}")
        body = render.model_route(route, namespace=namespace, resource_version=version)
        query = {"fieldManager": self._settings.field_manager}
        if version is None:
            # Created by POST, not by apply: one that somebody made a moment ago must not be overwritten unseen.
            answer = await self._api.request("POST", MODEL_ROUTE.path(namespace=namespace), query=query, body=body)
        else:
            answer = await self._api.request(
                "PATCH",
                MODEL_ROUTE.path(namespace=namespace, name=route.name),
                query={**query, "force": "true"},
                body=body,
                content_type=APPLY,
            )
        self._routes.put(answer)

    async def withdraw_route(self, route: Route) -> None:
        """Remove the route as it was seen. One that is gone already is success."""
        key = (self._settings.namespace, route.name)
        stored = self._routes.get(key)
        if stored is None:
            return
        version = route.resource_version or stored.value.resource_version
        path = MODEL_ROUTE.path(namespace=self._settings.namespace, name=route.name)
        await self._delete(path, {"uid": stored.uid, "resourceVersion": version})
        self._routes.forget(key)

    async def publish_status(self, report: ModelReport) -> None:
        """Apply ``status`` as one field manager. Skipped where nothing but time would change, or the model is gone."""
        model = report.model
        stored = self._stored(model)
        if stored is None:
            return
        wanted = render.status(
            report, published=stored.value.status, now=self._api.clock(), url=self._settings.gateway_url
        )
        if render.same_status(wanted, stored.value.status):
            return
        version = self._chain.latest(model.uid, model.resource_version)
        try:
            answer = await self._api.request(
                "PATCH",
                LOCAL_MODEL.path(namespace=model.key.namespace, name=model.key.name, subresource="status"),
                query={"fieldManager": self._settings.field_manager, "force": "true"},
                body=render.local_model_status(report, wanted, resource_version=version),
                content_type=APPLY,
            )
        except ApiRefused as refusal:
            if refusal.status == _NOT_FOUND:
                return
            raise
        self._wrote(model, before=version, answer=answer)

    async def _delete(self, path: str, preconditions: dict[str, str]) -> None:
        """An object as it was seen; one that is gone is success."""
        try:
            await self._api.request(
                "DELETE",
                path,
                body={"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions},
            )
        except ApiRefused as refusal:
            if refusal.status != _NOT_FOUND:
                raise

    async def _write_finalizers(self, model: Model, finalizers: tuple[str, ...]) -> None:
        version = self._chain.latest(model.uid, model.resource_version)
        answer = await self._api.request(
            "PATCH",
            LOCAL_MODEL.path(namespace=model.key.namespace, name=model.key.name),
            query={"fieldManager": self._settings.field_manager},
            body={"metadata": {"uid": model.uid, "resourceVersion": version, "finalizers": list(finalizers)}},
            content_type=MERGE,
        )
        self._wrote(model, before=version, answer=answer)

    def _stored(self, model: Model) -> Stored[WatchedModel] | None:
        stored = self._models.get(model.key)
        return stored if stored is not None and stored.uid == model.uid else None

    def _wrote(self, model: Model, *, before: str, answer: Object) -> None:
        self._models.put(answer)
        self._chain.wrote(model.uid, before=before, after=answer["metadata"]["resourceVersion"])


def _revisions_of(model: Model) -> str:
    return f"/apis/apps/v1/namespaces/{model.key.namespace}/controllerrevisions"


def _keeps(revision: kept.Revision, model: Model, release: Release) -> bool:
    return revision.owner_uid == model.uid and revision.release.digest == release.digest
