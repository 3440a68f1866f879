"""One frozen picture of the fleet: everything the planner may know.

Each part that comes from another process is :class:`Known`, :class:`Stale` or :class:`Unknown`. The rule that follows
from it, and that the planner keeps: something is removed only if every part that could contradict the removal is
Known; otherwise only additive starts and weight shifts happen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from roadstead.domain.inventory import Device, DeviceSlice
from roadstead.domain.model import Condition, Model, ModelKey
from roadstead.domain.release import Artifact, Release
from roadstead.domain.workload import NodePod, WorkerTemplate, Workloads

T = TypeVar("T")
_SHA256 = "sha256:"
_LABEL_DIGITS = 12
_PROCESSOR_ALONE = frozenset({"CPU"})


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """Answered within its time."""

    value: T


@dataclass(frozen=True, slots=True)
class Stale(Generic[T]):
    """Answered once, but not lately."""

    value: T
    since: datetime


@dataclass(frozen=True, slots=True)
class Unknown:
    """Never answered since this process started."""

    why: str


Part = Known[T] | Stale[T] | Unknown


def latest(part: Part[T]) -> T | None:
    """The last answer, however old; None if there never was one."""
    return None if isinstance(part, Unknown) else part.value


Abilities = tuple[frozenset[str], str, tuple[int, int]]
"""What a build says that it can do: backends, version and compute capability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBuild:
    """An engine as one exact build of it.

    It is what its image is: builds of one image are equal however they are described, so that another description
    neither makes a release nor is adopted.
    """

    engine: str
    image: str
    """``repository@sha256:…``, or embedded the wheel's name and version."""
    backends: frozenset[str] = field(default=_PROCESSOR_ALONE, compare=False)
    """What it computes with: ``CPU``, ``CUDA``, ``ROCm``, ``SYCL``, ``HPU``, ``Vulkan``."""
    version: str = field(default="", compare=False)
    """The engine's own, ``0.33.0`` or ``b11549``; empty: not told."""
    capability: tuple[int, int] = field(default=(0, 0), compare=False)
    """The least compute capability that its CUDA kernels were compiled for; (0, 0): not told."""

    @property
    def identity(self) -> str:
        """What names a content: the digest without the repository, so that a mirror makes no release."""
        return image_identity(self.image)

    @property
    def abilities(self) -> Abilities:
        """What equality leaves out."""
        return (self.backends, self.version, self.capability)

    def described_as(self, other: EngineBuild) -> EngineBuild:
        """The same build with what is said of another one."""
        return replace(self, backends=other.backends, version=other.version, capability=other.capability)


def image_identity(image: str) -> str:
    """``sha256:…`` of an image by digest, in whatever repository it lies; anything else is itself."""
    _, at, digest = image.rpartition("@")
    return digest if at and digest.startswith(_SHA256) else image


def image_label(image: str) -> str:
    """Twelve hex digits, the label of the workers that run an image; empty if it is none (embedded)."""
    identity = image_identity(image)
    return identity.removeprefix(_SHA256)[:_LABEL_DIGITS] if identity.startswith(_SHA256) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Machines that serve alike: one WorkerPool."""

    name: str
    node_selector: tuple[tuple[str, str], ...]
    engines: tuple[EngineBuild, ...]
    """What is offered. Where workers are Pods, contents are made from what was adopted of it."""
    workers: WorkerTemplate | None = None
    """None: its workers are not Pods."""
    adopt: str = ""
    """The annotation ``roadstead.dev/adopt``: digest of the image that a person has accepted."""
    uid: str = ""
    generation: int = 0
    conditions: tuple[Condition, ...] = ()
    """What its status says now; kept so that transition times move only when a status flips."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine as the API server knows it."""

    name: str
    labels: tuple[tuple[str, str], ...]
    ready: bool
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    allocatable: tuple[tuple[str, int], ...] = ()
    """Of extended resources only (``nvidia.com/gpu``), sorted: what device plugins offer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Memory that an agent has granted to a replica that lives."""

    slot: str
    index: int
    bytes: int
    """Of the host, the larger of what was granted and what was measured."""
    devices: tuple[str, ...] = ()
    """Ids of the accelerators that it has memory on."""
    device_bytes: int = 0
    """On each of them."""


class WeightPhase(StrEnum):
    FETCHING = "Fetching"
    READY = "Ready"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """One artifact in a node's store."""

    digest: str
    phase: WeightPhase
    bytes_total: int
    bytes_done: int
    bytes_per_second: float = 0.0
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """What a node agent told."""

    epoch: int
    cores: int
    isa: tuple[str, ...]
    budget_bytes: int
    free_bytes: int
    disk_free_bytes: int
    engines: tuple[EngineBuild, ...]
    weights: tuple[Weight, ...]
    leases: tuple[Lease, ...]
    measured_bytes: tuple[tuple[str, int], ...] = ()
    """Content hash and the memory that an engine really used on this node."""
    measured_speeds: tuple[tuple[str, float], ...] = ()
    """Content hash and the tokens a second that one stream got from it here."""
    measured_waits: tuple[tuple[str, float], ...] = ()
    """Content hash and the seconds that a prompt of ``PROMPT_TOKENS`` would wait for its first token, from what was
    seen here."""
    memory_bandwidth: float | None = None
    """Bytes a second that all cores together were seen to read."""
    devices: tuple[Device, ...] = ()
    """Accelerators, as the vendor's own library tells of them."""
    ambiguities: tuple[str, ...] = ()
    """Contradictions in what the agent read, in words."""

    def weight(self, digest: str) -> Weight | None:
        """The artifact in this node's store."""
        return next((weight for weight in self.weights if weight.digest == digest), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedSlot:
    """A slot as it is in its cell: what was put there, and how it goes."""

    name: str
    model: ModelKey
    variant: str
    release: int
    content: str
    """Hash of the content."""
    node: str
    threads: int
    replicas: int
    memory_bytes: int
    attempt: int
    status: str
    """Ray's own word."""
    message: str
    failed_at: datetime | None
    """When this operator first saw that the attempt had failed; None while it has not."""
    addresses: tuple[str, ...]
    """Of running replicas only."""
    recovering: int = 0
    """Replicas that serve and that a returning head has yet to reach: it cannot say where they listen."""
    engine_image: str = ""
    """Identity of its engine's build; empty where that is not known any more."""
    devices: int = 0
    """Accelerators of each replica."""
    device_bytes: int = 0
    """On each of these."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Ids of the accelerators of each replica."""
    configured: bool = True
    """False while Ray still tears down a slot that is no longer in the configuration."""

    @property
    def ready(self) -> int:
        """Running replicas."""
        return len(self.addresses)


class Raylet(NamedTuple):
    """A living worker in a Ray cluster."""

    node: str
    image: str
    """:func:`image_label` of the image it runs; empty where workers are not Pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFacts:
    """What a head agent told about its Ray cluster."""

    epoch: int
    base: str
    """Digest of the configuration in force; the next write must name it."""
    nodes: frozenset[str]
    """Nodes with a living raylet."""
    slots: tuple[ObservedSlot, ...]
    raylets: frozenset[Raylet] = frozenset()
    """The same raylets with the image each of them runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A Ray cluster and the nodes that belong to it."""

    name: str
    nodes: frozenset[str]
    """As its directory says. Nodes of pools whose workers join the cell, and of its slots, belong to it as well."""
    facts: Part[CellFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFacts:
    """What a gateway told: which routes it works by and what is under way."""

    routes: tuple[tuple[str, str], ...]
    """Name of a ModelRoute and the resource version this gateway works by."""
    in_flight: tuple[tuple[str, int], ...]
    """Slot and the requests under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One slot in a route, as published."""

    slot: str
    release: int
    variant: str
    node: str
    addresses: tuple[str, ...]
    weight: int
    capacity: int
    draining: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One ModelRoute as the API server has it, or as the plan wants it (then without a resource version)."""

    name: str
    model: ModelKey
    names: tuple[str, ...]
    task: str
    slots: tuple[Address, ...]
    resource_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolutionKey:
    """What was asked of whom. ``file://`` is asked of every selected node, everything else of any one."""

    node: str
    source: str
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    artifact: Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolving:
    """The agent is still reading or downloading."""

    bytes_total: int = 0
    bytes_done: int = 0
    bytes_per_second: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved:
    """The agent said no, or could not be asked."""

    code: str
    message: str
    at: datetime


Resolution = Resolved | Resolving | Unresolved
Answers = Mapping[ResolutionKey, Resolution]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFacts:
    """That Postgres answers; planning takes no figure from it."""

    installation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSnapshot:
    """Everything known at one moment. Keys that are missing from a mapping have never been heard of."""

    models: tuple[Model, ...]
    pools: tuple[Pool, ...]
    nodes: Mapping[str, Node]
    releases: Mapping[str, tuple[Release, ...]]
    """By uid of the LocalModel, ascending by number: its ControllerRevisions."""
    routes: Mapping[ModelKey, Route]
    agents: Mapping[str, Part[AgentFacts]]
    """By node."""
    cells: tuple[Cell, ...]
    gateways: Mapping[str, Part[GatewayFacts]]
    ledger: Part[LedgerFacts]
    resolutions: Answers
    workloads: Workloads | None = None
    """None: agents and workers are not Pods, and nothing is planned about Pods."""
    pods: tuple[NodePod, ...] = ()
    """Agents and workers."""
    claims: frozenset[str] = frozenset()
    """Names of the nodes' claims."""
    budgets: frozenset[str] = frozenset()
    """Names of the PodDisruptionBudgets of agents and workers: each that of its Pod."""
    adoptions: Mapping[str, tuple[EngineBuild, ...]] = field(default_factory=dict)
    """By pool: the engine builds that were adopted. Missing: nothing was yet."""
    device_slices: Mapping[str, tuple[DeviceSlice, ...]] = field(default_factory=dict)
    """By node: what drivers of dynamic resource allocation publish about its devices."""


def answered(snapshot: FleetSnapshot, answers: Answers) -> FleetSnapshot:
    """The picture with what agents said since."""
    return replace(snapshot, resolutions={**snapshot.resolutions, **answers}) if answers else snapshot
