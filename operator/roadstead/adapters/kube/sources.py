"""Everything of the API server that is kept up to date in memory: which kinds, how they are read, what wakes the loop.

Claims, budgets and adopted images are read only where the operator makes Pods: a fleet on one machine has none of them
and needs no rights on them. ResourceSlices are read where the API server has them and lets us.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, TypeVar

from roadstead.adapters.kube import device_slices, owned, parse, pools, render, revisions
from roadstead.adapters.kube.api import Api
from roadstead.adapters.kube.namespaced import NamespacedStores
from roadstead.adapters.kube.pods import COMPONENT_LABEL, POOL_LABEL
from roadstead.adapters.kube.reflector import Reflector, Resource
from roadstead.adapters.kube.resources import LOCAL_MODEL, MODEL_ROUTE, WORKER_POOL
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.adapters.kube.store import Poke, Store
from roadstead.adapters.kube.watched import Watched
from roadstead.domain.inventory import DeviceSlice
from roadstead.domain.snapshot import Node, Route
from roadstead.domain.workload import PodRole

T = TypeVar("T")

_OURS: Final = "app.kubernetes.io/part-of=roadstead"
_OF_THE_OPERATOR: Final = f"{_OURS},{COMPONENT_LABEL} in ({','.join(sorted(PodRole))})"


class Sources:
    """The stores, and who fills them."""

    def __init__(self, api: Api, settings: KubeSettings, *, makes_pods: bool, poke: Poke) -> None:
        self._api = api
        self._settings = settings
        own = f"namespaces/{settings.namespace}"
        self.models: NamespacedStores[parse.WatchedModel] = NamespacedStores(
            settings.watch_namespaces,
            lambda: Store(
                LOCAL_MODEL.name,
                parse=partial(parse.local_model, finalizer=settings.finalizer),
                relevant=parse.relevant_of_model,
                poke=poke,
            ),
        )
        self.pools: Store[pools.WatchedPool] = Store(
            WORKER_POOL.name, parse=pools.pool, relevant=pools.relevant_of_pool, poke=poke
        )
        self.revisions: NamespacedStores[revisions.Revision] = NamespacedStores(
            settings.watch_namespaces, lambda: Store("ControllerRevision", parse=revisions.from_object, poke=poke)
        )
        self.routes: Store[Route] = Store(
            MODEL_ROUTE.name, parse=parse.route, relevant=render.told_to_gateways, poke=poke
        )
        self.nodes: Store[Node] = Store("Node", parse=parse.node, poke=poke)
        self.device_slices: Store[DeviceSlice] = Store("ResourceSlice", parse=device_slices.device_slice, poke=poke)
        self.pods: Store[owned.Pod] = Store("Pod", parse=owned.pod, poke=poke)
        self.claims: Store[owned.Named] = Store("PersistentVolumeClaim", parse=owned.named, poke=poke)
        self.budgets: Store[owned.Named] = Store("PodDisruptionBudget", parse=owned.named, poke=poke)
        self.adoptions: Store[pools.Adoption] = Store("ConfigMap", parse=pools.adopted, poke=poke)
        self.all: tuple[Watched[Any] | Reflector[Any], ...] = (
            *(
                self._listed("localmodels", LOCAL_MODEL.path(namespace=namespace or None), part, namespace=namespace)
                for namespace, part in self.models.parts.items()
            ),
            self._listed("workerpools", WORKER_POOL.path(), self.pools),
            self._reflected("nodes", "/api/v1/nodes", self.nodes),
            self._reflected("resourceslices", device_slices.PATH, self.device_slices, optional=True),
            self._reflected("pods", f"/api/v1/{own}/pods", self.pods, labels=_OURS),
            *(
                self._reflected(
                    "controllerrevisions",
                    f"/apis/apps/v1/{f'namespaces/{namespace}/' if namespace else ''}controllerrevisions",
                    part,
                    labels=revisions.MODEL_LABEL,
                    namespace=namespace,
                )
                for namespace, part in self.revisions.parts.items()
            ),
            self._reflected("modelroutes", MODEL_ROUTE.path(namespace=settings.namespace), self.routes),
            *(self._of_workloads(own) if makes_pods else ()),
        )

    @property
    def synced(self) -> bool:
        """Whether every list has been read once."""
        return all(source.store.synced for source in self.all)

    def _of_workloads(self, own: str) -> tuple[Reflector[Any], ...]:
        return (
            self._reflected(
                "persistentvolumeclaims", f"/api/v1/{own}/persistentvolumeclaims", self.claims, labels=_OURS
            ),
            self._reflected(
                "poddisruptionbudgets",
                f"/apis/policy/v1/{own}/poddisruptionbudgets",
                self.budgets,
                labels=_OF_THE_OPERATOR,
            ),
            self._reflected("configmaps", f"/api/v1/{own}/configmaps", self.adoptions, labels=f"{_OURS},{POOL_LABEL}"),
        )

    def _listed(self, name: str, path: str, store: Store[T], *, namespace: str = "") -> Watched[T]:
        return Watched(self._api, Resource(name=_told(name, namespace), path=path), store, self._settings)

    def _reflected(
        self, name: str, path: str, store: Store[T], *, labels: str = "", namespace: str = "", optional: bool = False
    ) -> Reflector[T]:
        query = {"labelSelector": labels} if labels else {}
        resource = Resource(name=_told(name, namespace), path=path, query=query, optional=optional)
        return Reflector(self._api, resource, store, self._settings)


def _told(name: str, namespace: str) -> str:
    return f"{name} in {namespace}" if namespace else name
