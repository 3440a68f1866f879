"""WorkerPool: which machines serve alike, and what runs there.

A pool with ``workers`` has its agents and workers as Pods that the operator makes; one without names machines that
somebody else looks after, as on one machine `roadstead up` does.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from roadstead.adapters.kube.constraints import (
    RULES,
    ComputeCapability,
    DnsName,
    EngineName,
    LabelKey,
    LabelValue,
    OneLine,
    Rule,
    Strict,
    Told,
)
from roadstead.adapters.kube.localmodel import ConditionStatus
from roadstead.adapters.kube.quantities import (
    EngineCores,
    EngineMemory,
    ReservedCores,
    ReservedMemory,
    StoreSize,
    exceeds,
)

ADOPT_ANNOTATION = "roadstead.dev/adopt"
"""On a WorkerPool: digest of the image that is to be adopted."""
_BY_DIGEST = "@sha256:[0-9a-f]{64}$"


class PoolEngine(Strict):
    """An engine as one exact build of it."""

    engine: EngineName
    """The engine's name, for instance LlamaCpp."""
    image: OneLine
    """The build: an image by digest, or name and version of a wheel where nodes run from wheels. It is part of what
    names a content, so another build makes new slots. In a pool with workers it is an offer: the first one is adopted
    at once, a later one when the annotation roadstead.dev/adopt names its digest."""
    backends: Annotated[
        tuple[
            Annotated[
                Literal["CPU", "CUDA", "ROCm", "SYCL", "HPU", "Vulkan"], Field(description="One of its backends.")
            ],
            ...,
        ],
        Field(min_length=1, max_length=6, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ("CPU",)
    """What the build computes with. Without CPU it runs on accelerators only. As version and computeCapability it
    describes the image and is no part of what names a content: another description makes no new slots."""
    version: OneLine | None = None
    """The engine's own version, for instance 0.33.0 or b11549: which formats it runs depends on it. It may be absent
    for LlamaCpp, which runs the same files in every version."""
    compute_capability: ComputeCapability | None = None
    """The least of NVIDIA's compute capabilities that its CUDA kernels were compiled for, for instance 7.5. Absent: as
    low as the engine itself goes."""


class Store(Strict):
    """The volume of a node's weights: one claim per node, kept when the node or the pool goes."""

    storage_class_name: DnsName | None = None
    """Its StorageClass; the cluster's default if absent. One that binds on first use puts it on the node itself."""
    size: StoreSize
    """How much is claimed per node: the weights of all variants that the node serves, and half as much again."""


class Resources(Strict):
    """Limits of one worker Pod."""

    cpu: EngineCores
    """Cores: engines on the node use so many threads together, in whole cores."""
    memory: EngineMemory
    """Memory: engines on the node get this less what Ray itself needs."""


class Requests(Strict):
    """What the scheduler reserves for one worker Pod."""

    cpu: ReservedCores = "100m"
    """Cores that are reserved."""
    memory: ReservedMemory = "1Gi"
    """Memory that is reserved."""


class Toleration(Strict):
    """A taint that the pool's Pods put up with, as in a Pod."""

    key: LabelKey | None = None
    """The taint's key; absent together with operator Exists: every taint."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Exists: the key alone counts. Equal: key and value."""
    value: LabelValue | None = None
    """The taint's value, with operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; absent: every effect."""
    toleration_seconds: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    """With effect NoExecute: for how long. Absent: for ever."""


_TOLERATIONS_AS_IN_PODS = (
    Rule(
        "has(self.key) || self.operator == 'Exists'",
        "without a key, operator must be Exists",
        lambda toleration: toleration.key is not None or toleration.operator == "Exists",
    ),
    Rule(
        "!has(self.value) || self.operator == 'Equal'",
        "with operator Exists there must be no value",
        lambda toleration: toleration.value is None or toleration.operator == "Equal",
    ),
    Rule(
        "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        "tolerationSeconds needs effect NoExecute",
        lambda toleration: toleration.toleration_seconds is None or toleration.effect == "NoExecute",
    ),
)
_REQUESTS_WITHIN_LIMITS = Rule(
    "!has(self.requests) || ("
    "(!has(self.requests.cpu) || quantity(self.requests.cpu).compareTo(quantity(self.resources.cpu)) <= 0)"
    " && (!has(self.requests.memory)"
    " || quantity(self.requests.memory).compareTo(quantity(self.resources.memory)) <= 0))",
    "requests must not exceed resources",
    lambda workers: (
        not exceeds(workers.requests.cpu, workers.resources.cpu)
        and not exceeds(workers.requests.memory, workers.resources.memory)
    ),
)

_SETTLED = Rule(
    "self == oldSelf",
    "cannot be changed; make another pool for the other cell, and give it nodes by their labels",
    lambda _cell: True,  # only the API server knows what was there before
)


class Workers(Strict):
    """The Pods on each node of the pool."""

    cell: Annotated[DnsName, _SETTLED]
    """The Ray cell that the workers join. It cannot be changed: slots have the same names in every cell. Nodes get
    into another cell by another pool."""
    devices: Literal["Shared", "Exclusive"] = "Shared"
    """Whether two worker Pods fit a node at once. Shared: an old and a new one overlap. Exclusive: the old one goes
    first, node by node."""
    store: Store
    """Where a node keeps its weights."""
    resources: Resources
    """Limits of one worker Pod; engines share what is left of the memory after Ray's own share."""
    requests: Requests = Field(default_factory=Requests)
    """What the scheduler reserves for one worker Pod."""
    tolerations: Annotated[
        tuple[Annotated[Toleration, *_TOLERATIONS_AS_IN_PODS], ...],
        Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = Field(default=())
    """Taints that the pool's Pods put up with. Taints of nodes that are cordoned or out of reach always are."""
    drain_seconds: Annotated[int, Field(ge=0, le=86_400)] = 600
    """How long a worker Pod may take to end: answers under way finish meanwhile."""


class WorkerPoolSpec(Strict):
    """Which machines, and what runs there."""

    model_config = ConfigDict(
        json_schema_extra={
            RULES: [
                {
                    "rule": f"!has(self.workers) || self.engines.all(build, build.image.matches('{_BY_DIGEST}'))",
                    "message": "engines of a pool with workers must be images by digest (…@sha256:…)",
                }
            ]
        }
    )

    node_selector: Annotated[
        dict[str, Annotated[LabelValue, Field(description="Value of that label.")]], Field(max_length=16)
    ] = Field(default_factory=dict)
    """Labels of the nodes that belong to the pool; none means every node."""
    engines: Annotated[
        tuple[PoolEngine, ...],
        Field(
            min_length=1,
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["engine"]},
        ),
    ]
    """The engines that these nodes have, each as one exact build."""
    workers: Annotated[Workers, _REQUESTS_WITHIN_LIMITS] | None = None
    """The Pods that the operator makes on each node: an agent, and a worker for each image. Absent: the machines' own
    processes are somebody else's matter, as on one machine."""

    @model_validator(mode="after")
    def _images_are_exact(self) -> WorkerPoolSpec:
        if self.workers is not None and not all(re.search(_BY_DIGEST, build.image) for build in self.engines):
            raise PydanticCustomError("rule", "engines of a pool with workers must be images by digest (…@sha256:…)")
        return self


class WorkerCount(Told):
    """Worker Pods of the pool."""

    wanted: int
    """Worker Pods that there should be."""
    ready: int
    """Worker Pods that are Ready."""


class EngineStatus(Told):
    """One engine of the pool: the image that is used and the one that is offered."""

    engine: str
    """The engine's name."""
    adopted: str
    """The image that new releases use."""
    offered: str
    """The image in spec.engines; another one than the adopted waits for the annotation roadstead.dev/adopt."""


class PoolCondition(ConditionStatus):
    """One aspect of how the pool is."""

    type: str
    """Ready (every worker Pod that is wanted is Ready) or ImageOffered (an image waits to be adopted)."""


class PoolPrinted(Told):
    """What kubectl get prints. For people: programs read the other fields."""

    ready: str
    """Ready worker Pods of those wanted."""
    offered: str
    """Engines with an image that waits to be adopted."""


class WorkerPoolStatus(Told):
    """What is. Written by the operator alone, where its role lets it."""

    observed_generation: int | None = None
    """Generation of the spec that this status was planned from."""
    nodes: int | None = None
    """Nodes that belong to the pool."""
    workers: WorkerCount | None = None
    """Worker Pods of the pool."""
    engines: Annotated[
        tuple[EngineStatus, ...] | None,
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["engine"]},
        ),
    ] = None
    """Each engine of the pool with the image that is used and the one that is offered."""
    conditions: Annotated[
        tuple[PoolCondition, ...] | None,
        Field(
            max_length=32,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = None
    """How the pool is, one aspect a row; `kubectl wait --for=condition=Ready` waits for one.

    OrphansHeld names what serves without a LocalModel and waits for a person's word.
    """
    printed: PoolPrinted | None = None
    """What kubectl get prints. For people: programs read the other fields."""


class WorkerPool(Strict):
    """Machines that serve alike. Written by the platform team (the chart does it), read by the operator."""

    spec: WorkerPoolSpec
    """Which machines, and what runs there."""
    status: WorkerPoolStatus | None = None
    """What is. Written by the operator alone, where its role lets it."""
