"""The Pods that the operator owns: one agent on each node of a pool, one worker on each node for each adopted image.

Where workers are not Pods (a fleet on one machine) there are no :class:`Workloads` and none of this is planned.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum

_NAME_LIMIT = 63
_DIGITS = 8
_RAY_BYTES = 768 * 1024 * 1024
"""What a raylet with its own processes and the replicas' interpreters hold of a worker's memory: 0.5 GiB measured
with nothing on it, and some replicas more."""
_MILLIS = 1000


class Devices(StrEnum):
    """Whether two workers on one node can use the devices at the same time."""

    SHARED = "Shared"
    EXCLUSIVE = "Exclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """As in a Pod's spec; empty means the field is not set."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTemplate:
    """``spec.workers`` of a WorkerPool."""

    cell: str
    """The Ray cell that its workers join."""
    devices: Devices = Devices.SHARED
    storage_class: str | None = None
    """None: the cluster's default."""
    store_bytes: int
    cpu_millis: int
    """Limit of a worker Pod."""
    memory_bytes: int
    """Limit of a worker Pod."""
    request_cpu_millis: int
    request_memory_bytes: int
    tolerations: tuple[Toleration, ...] = ()
    drain_seconds: int = 600
    """A worker Pod's grace period."""

    @property
    def engine_memory_bytes(self) -> int:
        """What the engines of a node may use together: the limit less Ray's own share."""
        return max(0, self.memory_bytes - _RAY_BYTES)

    @property
    def engine_cores(self) -> int:
        """Whole cores; an engine's threads count on having them."""
        return max(1, self.cpu_millis // _MILLIS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workloads:
    """What the chart says about the Pods that the operator makes."""

    release: str
    """Of the chart; the prefix of names."""
    agent_image: str
    agent_digest: str
    """Over everything that decides what an agent's Pod looks like: its part of the file and the renderer's version."""
    worker_digest: str
    """The same of a worker's Pod."""


class PodRole(StrEnum):
    """The value is the label ``app.kubernetes.io/component``."""

    AGENT = "agent"
    WORKER = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePod:
    """An agent's or worker's Pod as the API server has it."""

    name: str
    uid: str
    role: PodRole
    node: str
    """The Node's whole name, as its annotation says."""
    pool: str
    image: str
    """By digest, as its annotation says."""
    template: str
    """:func:`agent_template` or :func:`worker_template` of what was asked for, as its annotation says."""
    ready: bool
    deleting: bool
    """Somebody, or an eviction, has asked for its end: it drains."""
    finished: bool = False
    """Its phase is Succeeded or Failed: it does nothing any more and must go before another takes its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodWish:
    """A Pod that should run."""

    name: str
    role: PodRole
    node: str
    pool: str
    image: str
    """With its repository."""
    template: str
    worker: WorkerTemplate
    """An agent needs of it the engines' memory and cores, the cell and the tolerations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimWish:
    """The claim that holds a node's weights. Nobody owns it; it is never removed."""

    name: str
    node: str
    pool: str
    storage_class: str | None
    bytes: int


def agent_template(workloads: Workloads, worker: WorkerTemplate) -> str:
    """Hash of everything that an agent's Pod is made from, as far as it reaches the agent."""
    return _digest(
        workloads.agent_image,
        workloads.agent_digest,
        {
            "cores": worker.engine_cores,
            "memory": worker.engine_memory_bytes,
            "cell": worker.cell,
            "tolerations": [asdict(toleration) for toleration in worker.tolerations],
        },
    )


def worker_template(workloads: Workloads, worker: WorkerTemplate, identity: str) -> str:
    """Hash of everything that a worker's Pod is made from; ``identity`` names its image."""
    made_from = asdict(worker)
    for field in ("devices", "storage_class", "store_bytes"):
        del made_from[field]  # neither is in the Pod: the one orders replacements, the others make the claim
    return _digest(workloads.worker_digest, identity, made_from)


def agent_pod_name(release: str, node: str) -> str:
    """``<release>-agent-<node>``."""
    return _fitted(f"{release}-agent-{node}", _NAME_LIMIT)


def worker_pod_name(release: str, node: str, template: str) -> str:
    """``<release>-worker-<node>-<8 hex of image and template>``."""
    return f"{_fitted(f'{release}-worker-{node}', _NAME_LIMIT - _DIGITS - 1)}-{template[:_DIGITS]}"


def claim_name(node: str) -> str:
    """``roadstead-weights-<node>``."""
    return _fitted(f"roadstead-weights-{node}", _NAME_LIMIT)


def _fitted(name: str, limit: int) -> str:
    """At most ``limit`` characters; what is cut ends in digits of the whole name's hash."""
    if len(name) <= limit:
        return name
    digits = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"{name[: limit - _DIGITS - 1].rstrip('-.')}-{digits}"


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
