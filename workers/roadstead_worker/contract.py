"""The words that cross the doors: what node agents and head agents tell, and what they may be told.

Both sides import this module and nothing of each other. Every mutating request carries the leader's epoch in the header
``EPOCH_HEADER``; a door keeps the highest epoch it has seen in a file and refuses an older one with ``StaleEpoch``.
State is long-polled: ``GET /state?after=<digest>`` answers at once when the digest differs, else after a change or
``LONG_POLL_SECONDS`` (of a node agent ``NODE_LONG_POLL_SECONDS``). A state's digest covers everything but itself, with
free memory rounded so that idle noise does not wake anyone (the agent republishes memory only when it moved by more
than ``MEMORY_STEP_BYTES``).

Node agent (bearer ``door.token``):
    GET    /healthz                      no bearer needed, says only that it runs
    GET    /state?after=D                -> NodeState
    POST   /resolve      ResolveRequest  -> 200 Resolution | 202 Progress | 4xx/5xx Problem
    PUT    /weights/{digest} FetchRequest -> 202 WeightState | 4xx Problem      (mutating)
    DELETE /weights/{digest}             -> 204; cancels a fetch, removes a blob; 409 Problem while a lease uses it
    GET    /logs                         -> EngineLogFiles, also of slots that are gone
    GET    /logs/{slot}?index=0&lines=100&follow=false
                                         -> text: the last lines of that engine, then with follow what comes, for ever;
                                            404 LogNotFound (not with follow), 429 TooManyStreams
Node agent, unix socket ``$ROADSTEAD_STORE/agent.sock`` (peer uid checked; for replicas on that node):
    POST   /leases       LeaseRequest    -> 200 LeaseGrant | 409 Problem (InsufficientRAM, InsufficientVRAM,
                                            DeviceUnknown)
    POST   /leases/memory LeaseMemory    -> 204 | 409 Problem (LeaseNotHeld)
    POST   /measurements Measurement     -> 204
Head agent (bearer ``door.token``):
    GET    /healthz                      no bearer needed
    GET    /readyz                       no bearer needed; 200 while Ray's dashboard answers, else 503
    GET    /state?after=D                -> CellState
    PUT    /config       ConfigRequest   -> 200 ConfigAccepted | 409 StaleEpoch | 412 BaseChanged   (mutating)
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from roadstead_weights.facts import ModelFacts

EPOCH_HEADER: Final = "X-Roadstead-Epoch"
REPLICA_HEADER: Final = "X-Roadstead-Replica"
"""Carries the shared secret of ``replica.token`` that a replica demands of every caller."""
LONG_POLL_SECONDS: Final = 20.0
NODE_LONG_POLL_SECONDS: Final = 50.0
"""There are as many node agents as nodes: at 20 s, a thousand of them cost their operator 3 % of a core at rest."""
MEMORY_STEP_BYTES: Final = 32 * 1024 * 1024
LOG_LINES_LIMIT: Final = 10_000
"""The most that ``lines`` may ask for."""
DIGEST_PATTERN: Final = r"^sha256:[0-9a-f]{64}$"

Digest = Annotated[str, Field(pattern=DIGEST_PATTERN)]


class Wire(BaseModel):
    """Base of everything that crosses a door: immutable, no NaN (JSON has none)."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Told(Wire):
    """What is told: read leniently. During an upgrade the other side may be a version that has more to say."""

    model_config = ConfigDict(extra="ignore")


class Asked(Wire):
    """What is asked for: an unknown field is refused. Passed over, it would be a wish that nobody meets.

    So a field that came later is left out while it asks for nothing (``_asks_for_nothing``): whoever does not know it
    yet can meet every request that does not need it, and what was put for a slot before stays word for word the same.
    """

    model_config = ConfigDict(extra="forbid")


def _asks_for_nothing(value: object) -> bool:
    return not value


class Problem(Told):
    """An error a person can act on. ``code`` is one of the product's reason codes."""

    code: str
    message: str
    field: str = ""
    """The field, path or object it is about."""
    epoch: int | None = None
    """With ``StaleEpoch``: the epoch this door has seen."""


class EngineOffer(Told):
    """An engine that replicas on this node can start."""

    engine: str
    """``LlamaCpp``."""
    image: str
    """What identifies the build: an image digest, or embedded the wheel's name and version."""


class Hardware(Told):
    """What the machine is, as the agent read it."""

    cores: int
    memory_bytes: int
    isa: tuple[str, ...] = ()
    """Lower-case CPU flags the planner knows, e.g. ``avx2``, ``avx512f``, ``asimddp``."""
    machine: str = ""
    memory_bandwidth: float | None = None
    """Bytes a second that all cores together were seen to read; None until that was measured."""


class DeviceState(Told):
    """An accelerator, or a slice of one, as the vendor's library or the kernel tells of it."""

    id: str
    """Unique on the node; the vendor's UUID where there is one."""
    vendor: str
    """``NVIDIA`` or ``AMD``."""
    product: str
    """As NVIDIA's labels on nodes write it: ``NVIDIA-L40S``."""
    memory_bytes: int
    free_bytes: int
    """``min(what no process holds, memory - sum of the leases on it)``, in steps of ``MEMORY_STEP_BYTES``."""
    compute_capability: tuple[int, int] | None = None
    """NVIDIA's: ``(8, 9)``."""
    architecture: str = ""
    """AMD's: ``gfx942``."""
    mig_profile: str = ""
    """``1g.10gb`` of a slice; empty for a whole card."""


class Memory(Told):
    """Host memory for engines, in bytes."""

    budget_bytes: int
    """What engines together may use: the budget file's figure, else the machine's memory."""
    free_bytes: int
    """``min(budget - sum(max(granted, measured) of each lease), MemAvailable)``, never below 0."""


class WeightPhase(StrEnum):
    FETCHING = "Fetching"
    READY = "Ready"
    FAILED = "Failed"


class WeightState(Told):
    """One artifact on this node."""

    digest: Digest
    phase: WeightPhase
    bytes_total: int
    bytes_done: int
    bytes_per_second: float = 0.0
    problem: Problem | None = None


class LeaseState(Told):
    """Memory granted to one replica; exists as long as somebody holds the lease file's lock."""

    slot: str
    index: int
    """Number of the device group in the slot that the replica has claimed."""
    content: str
    bytes_granted: int
    bytes_measured: int = 0
    """Resident set of the engine's processes, as its replica told last; 0 until it has."""
    devices: tuple[str, ...] = ()
    """Ids of the accelerators that the engine may use."""
    device_bytes: int = 0
    """Granted on each of them."""


class Measurement(Told):
    """What an engine showed when it ran: the truth that estimates give way to."""

    content: str
    slot: str
    memory_bytes: int
    load_seconds: float
    tokens_per_second: float | None = None
    time_to_first_token_seconds: float | None = None
    prompt_tokens_per_second: float | None = None
    """Of prompts long enough to tell; None until there was one."""


class NodeState(Told):
    """Everything a node agent knows, in one answer."""

    digest: str
    epoch: int
    node: str
    cores: int
    """Cores engines may use: the budget file's figure, else the machine's."""
    hardware: Hardware
    memory: Memory
    disk_free_bytes: int
    engines: tuple[EngineOffer, ...] = ()
    weights: tuple[WeightState, ...] = ()
    leases: tuple[LeaseState, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    devices: tuple[DeviceState, ...] = ()
    ambiguities: tuple[str, ...] = ()
    """What could not be read of accelerators, in words. What it is about is not in ``devices``."""


class EngineLogFile(Told):
    """What one engine said, with its rotated part."""

    slot: str
    index: int
    bytes: int
    modified: float
    """Unix seconds of the last line."""


class EngineLogFiles(Told):
    """Every log that is still in the node's store."""

    files: tuple[EngineLogFile, ...]


class ResolveRequest(Asked):
    """What is behind this source now?"""

    source: str
    digest: Digest | None = None
    """When given, the content must have it (``DigestMismatch`` otherwise)."""


class Resolution(Told):
    """A source turned into an identity."""

    source: str
    digest: Digest
    bytes: int
    facts: ModelFacts


class Progress(Told):
    """Resolving takes longer than a request: ask again."""

    bytes_total: int
    bytes_done: int
    bytes_per_second: float = 0.0


class FetchRequest(Asked):
    """Bring this artifact into the node's store (idempotent)."""

    source: str
    bytes: int


class LeaseRequest(Asked):
    """A replica that holds ``leases/<slot>.<index>.json`` under flock asks for the memory it announces there."""

    slot: str
    index: int
    content: str
    artifact: Digest
    bytes: int
    devices: tuple[str, ...] = Field(default=(), exclude_if=_asks_for_nothing)
    """Ids of the accelerators that the engine shall use; without any it runs on the processor."""
    device_bytes: int = Field(default=0, exclude_if=_asks_for_nothing)
    """On each of them."""


class LeaseMemory(Asked):
    """What the engine of a granted lease holds now. Only its replica can see it: an agent's Pod has other processes."""

    slot: str
    index: int
    bytes: int
    """Resident set of the engine's processes."""


class LeaseGrant(Told):
    """Granted. ``path`` is the artifact's file in the node's store, read-only."""

    path: str
    threads: int


# --- head agent -----------------------------------------------------------------------------------------------------


class ReplicaState(Told):
    """One Serve replica as Ray reports it."""

    id: str
    state: str
    """``STARTING RUNNING STOPPING ...`` (Ray's own words)."""
    node_ip: str = ""
    pid: int = 0


class ApplicationState(Told):
    """One Serve application, i.e. one slot."""

    name: str
    status: str
    """``DEPLOYING RUNNING DEPLOY_FAILED UNHEALTHY DELETING ...`` (Ray's own words)."""
    message: str = ""
    """The useful text: the deployment's message if there is one, at most 2,000 characters of its tail."""
    addresses: tuple[str, ...] = ()
    """``host:port`` of *running* replicas only; Ray lists its proxy when none runs, which is left out here."""
    replicas: tuple[ReplicaState, ...] = ()
    config: dict[str, Any] = Field(default_factory=dict)
    """The application's config as it was last put; empty while Ray is deleting it."""


class WorkerState(Told):
    """One living raylet: on which node, from which image."""

    node: str
    image: str = ""
    """Value of the label ``roadstead.dev/image`` (``image_label``); empty where workers are no Pods."""


class CellState(Told):
    """Everything a head agent knows about its Ray cluster."""

    digest: str
    epoch: int
    cell: str
    base: str
    """Digest of the configuration Ray holds now: what the next ``PUT /config`` must name."""
    reachable: bool
    """Whether Ray's dashboard answered within the last seconds; when not, the rest is the last good answer."""
    nodes: tuple[str, ...] = ()
    """Values of the label ``roadstead.dev/node`` of living raylets."""
    workers: tuple[WorkerState, ...] = ()
    """Living raylets that have that label, one per node and image, sorted."""
    applications: tuple[ApplicationState, ...] = ()
    since: str = ""
    """Digest of an earlier state: ``applications`` are only those that are other than in that one. Empty: all."""
    gone: tuple[str, ...] = ()
    """With ``since``: names of applications that were in that state and are no more."""


class ConfigRequest(Asked):
    """The full list of applications of a cell (Ray's PUT is a full replace)."""

    base: str
    applications: tuple[dict[str, Any], ...]


class ConfigAccepted(Told):
    base: str
    """The digest of what is now in force."""


# --- what a Ray node is told by its environment ----------------------------------------------------------------------

RAY_NODE_PORTS: Final = (
    "node-manager",
    "object-manager",
    "dashboard-agent-listen",
    "dashboard-agent-grpc",
    "runtime-env-agent",
    "metrics-export",
)
"""Ports that every node of Ray listens on, by Ray's names; ``ROADSTEAD_RAY_PORTS`` gives each node its own."""


# --- what the operator writes into a Serve application --------------------------------------------------------------

SLOT_IMPORT_PATH: Final = "roadstead_worker.replica.application:build"
SLOT_DEPLOYMENT: Final = "Slot"
NODE_LABEL: Final = "roadstead.dev/node"
IMAGE_LABEL: Final = "roadstead.dev/image"
_IMAGE_LABEL_DIGITS: Final = 12


def image_label(image: str) -> str:
    """What a worker from this image carries as ``IMAGE_LABEL``: twelve hex digits of its digest; empty without one."""
    _, _, digest = image.rpartition("@")
    return digest.removeprefix("sha256:")[:_IMAGE_LABEL_DIGITS] if re.fullmatch(DIGEST_PATTERN, digest) else ""


class SlotArgs(Asked):
    """``args`` of an application: whatever is restart-worthy. Unknown keys are refused when the app is built."""

    slot: str
    model: str
    """``namespace/name`` of the LocalModel."""
    variant: str
    node: str
    """Kubernetes name of the node; the label selector repeats it for Ray."""
    content: str
    """Hash of the content."""
    artifact: Digest
    engine: str
    engine_image: str
    engine_args: tuple[str, ...] = ()
    served_name: str
    context_tokens: int
    """Per sequence."""
    concurrency: int
    task: str = "Chat"
    threads: int
    attempt: int = 0
    """Raised to make Ray try a failed application again: it ignores an identical config."""
    devices: int = Field(default=0, exclude_if=_asks_for_nothing)
    """Accelerators of each replica; 0: it runs on the processor."""


class SlotUserConfig(Asked):
    """``user_config``: what changes in place, without a restart. A running engine ignores a later one."""

    release: int
    memory_bytes: int
    """The estimate each replica takes a lease for."""
    groups: int
    """Number of device groups to claim from, one per replica."""
    device_bytes: int = Field(default=0, exclude_if=_asks_for_nothing)
    """The estimate each replica takes a lease for on each of its accelerators."""
    device_groups: tuple[tuple[str, ...], ...] = Field(default=(), exclude_if=_asks_for_nothing)
    """Ids of the accelerators of each group, where replicas have any."""
