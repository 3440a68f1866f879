"""The kinds of the group ``roadstead.dev``, with what the API server has to know of each besides its fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from roadstead.adapters.kube.constraints import Strict
from roadstead.adapters.kube.localmodel import LocalModel
from roadstead.adapters.kube.workerpool import WorkerPool
from roadstead.domain.model import Task

GROUP = "roadstead.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class RouteSlot(Strict):
    """One slot that the model can be reached at."""

    name: str
    """Name of the slot and of its Ray Serve application."""
    release: int
    """The newest release that the slot was placed for."""
    variant: str
    """The variant it runs."""
    node: str
    """The node it runs on."""
    route_prefix: str
    """Stays in the path of requests."""
    addresses: tuple[Annotated[str, Field(description="host:port.")], ...]
    """Addresses of the replicas that run."""
    weight: int
    """Share of the requests among the active slots; 0 means none."""
    capacity: int
    """Requests that one address serves at once."""
    state: Literal["Active", "Draining"]
    """Draining: no new requests; those under way finish."""


class ModelRouteSpec(Strict):
    """What gateways need to know of a model."""

    model: str
    """namespace/name of the LocalModel; as a name it always routes."""
    names: Annotated[
        tuple[Annotated[str, Field(description="A short name.")], ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = Field(default=())
    """Short names granted to this model; a name is granted to one model only."""
    task: Task
    """What the model is asked to do: Chat or Completion."""
    slots: Annotated[tuple[RouteSlot, ...], Field(json_schema_extra={"x-kubernetes-list-type": "atomic"})] = Field(
        default=()
    )
    """Where it can be reached."""


class ModelRoute(Strict):
    """Where the gateways find a model. The operator alone writes it and undoes what others change."""

    spec: ModelRouteSpec
    """What gateways need to know of a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of ``kubectl get``."""

    name: str
    path: str
    description: str
    type: Literal["string", "integer", "date"] = "string"
    wide: bool = False


AGE = Column(name="Age", path=".metadata.creationTimestamp", description="Time since it was created.", type="date")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of ours."""

    name: str
    plural: str
    namespaced: bool
    model: type[BaseModel]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (AGE,)
    scalable: bool = False

    def path(self, *, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The address below the API server's root."""
        parts = ["/apis", GROUP, VERSION, *(("namespaces", namespace) if namespace else ()), self.plural]
        return "/".join([*parts, *(part for part in (name, subresource) if part)])


LOCAL_MODEL = Kind(
    name="LocalModel",
    plural="localmodels",
    namespaced=True,
    model=LocalModel,
    short_names=("lm",),
    categories=("all", "ai"),
    columns=(
        Column(name="Model", path=".status.servedName", description="The short name that clients ask for."),
        Column(name="Release", path=".status.release.number", description="Release that is served.", type="integer"),
        Column(name="Variants", path=".status.printed.variants", description="Variants that are served."),
        Column(name="Ready", path=".status.printed.ready", description="Ready replicas of those wanted."),
        Column(name="Status", path=".status.printed.status", description="Where the model stands."),
        AGE,
        Column(name="Nodes", path=".status.printed.nodes", description="Nodes that serve it.", wide=True),
        Column(name="Message", path=".status.printed.message", description="What to know first.", wide=True),
    ),
    scalable=True,
)
WORKER_POOL = Kind(
    name="WorkerPool",
    plural="workerpools",
    namespaced=False,
    model=WorkerPool,
    short_names=("wp",),
    categories=("ai",),
    columns=(
        Column(name="Nodes", path=".status.nodes", description="Nodes that belong to the pool.", type="integer"),
        Column(name="Ready", path=".status.printed.ready", description="Ready worker Pods of those wanted."),
        Column(name="Offered", path=".status.printed.offered", description="Engines with an image to be adopted."),
        AGE,
    ),
)
MODEL_ROUTE = Kind(
    name="ModelRoute",
    plural="modelroutes",
    namespaced=True,
    model=ModelRoute,
    columns=(
        Column(name="Model", path=".spec.model", description="The LocalModel, as namespace/name."),
        Column(name="Task", path=".spec.task", description="What the model is asked to do."),
        AGE,
    ),
)
KINDS = (LOCAL_MODEL, WORKER_POOL, MODEL_ROUTE)
