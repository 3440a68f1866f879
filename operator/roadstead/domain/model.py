"""What a team asks for: one LocalModel, already parsed and checked.

The Kubernetes object is turned into these values at the edge (``adapters/kube/resources.py``); nothing below ever
sees a ``dict``. A LocalModel whose spec cannot be read is still a :class:`Model`, with ``problems`` and without
``spec``, so that its status can say what is wrong while what it served before goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from roadstead.domain.quality import QualityRecord


class ModelKey(NamedTuple):
    """Where a LocalModel lives. Its lineage in the ledger has the same name and outlives the object."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Task(StrEnum):
    """What the model is asked to do."""

    CHAT = "Chat"
    COMPLETION = "Completion"


class CacheType(StrEnum):
    """What keys and values of the context are kept in."""

    F16 = "F16"
    Q8_0 = "Q8_0"
    Q4_0 = "Q4_0"


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSpec:
    """One rung of the ladder: a set of weights of the model in one precision."""

    name: str
    source: str
    digest: str | None = None
    """What the content must hash to, when the team wants to be sure."""
    quality: float | None = None
    """1.0 = the unquantized model. Overrides what is usual for the variant's type."""


PROMPT_TOKENS: Final = 1000
"""Length of the prompt that a time to the first token is promised for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a replica must be able to do, whatever variant it runs."""

    context_tokens: int = 4096
    """Per sequence."""
    concurrency: int = 1
    """Sequences at once per replica."""
    cache_type: CacheType = CacheType.F16
    min_tokens_per_second: float | None = None
    """Of one stream. Policy: where a replica was seen to be slower it is not started, and moves on."""
    max_seconds_to_first_token: float | None = None
    """For a prompt of ``PROMPT_TOKENS``. Policy, as the speed is."""
    min_quality: float | None = None
    """Below it no variant is served, whatever else fits. Policy, like replicas and placement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How evenly replicas are to lie over domains: the values of one label of the nodes."""

    topology_key: str
    max_skew: int = 1
    """By how many replicas a domain may be ahead of the one with the fewest when a replica starts in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPolicy:
    """Which nodes may serve the model. Policy, so a change of it never makes a release."""

    pools: tuple[str, ...] = ()
    """Empty means every pool."""
    node_selector: tuple[tuple[str, str], ...] = ()
    spread: Spread | None = None
    priority: int = 0
    """The higher takes room from the lower where there is not enough for both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """``spec`` of a LocalModel, defaults filled in."""

    served_name: str
    aliases: tuple[str, ...] = ()
    task: Task = Task.CHAT
    variants: tuple[VariantSpec, ...]
    requirements: Requirements = field(default_factory=Requirements)
    replicas: int = 1
    placement: PlacementPolicy = field(default_factory=PlacementPolicy)
    keep_releases: int = 3
    """Releases that stay at hand beside those in use. Policy, like replicas and placement."""
    measured: tuple[QualityRecord, ...] = ()
    """What was measured of artifacts. It stands beside the spec in an annotation, and is policy as ``quality`` is."""

    @property
    def names(self) -> tuple[str, ...]:
        """Short names the model asks for, the served name first."""
        return tuple(dict.fromkeys((self.served_name, *self.aliases)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldProblem:
    """Something in a spec that cannot be acted on."""

    path: str
    """``spec.variants[1].source``."""
    message: str


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of a LocalModel's status."""

    type: str
    status: ConditionStatus
    reason: str
    message: str
    observed_generation: int
    last_transition: datetime
    """Moves only when ``status`` flips."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One LocalModel as the API server has it."""

    key: ModelKey
    uid: str
    resource_version: str
    generation: int
    created: datetime
    deleted: datetime | None = None
    finalized: bool = False
    """Whether our finalizer is on the object."""
    spec: ModelSpec | None
    problems: tuple[FieldProblem, ...] = ()
    ignored: tuple[FieldProblem, ...] = ()
    """What beside the spec cannot be read. The spec is acted on without it."""
    conditions: tuple[Condition, ...] = ()
    """What its status says now; kept so that transition times move only when a status flips."""

    @property
    def deleting(self) -> bool:
        """Whether somebody has asked for the object's end."""
        return self.deleted is not None

    @property
    def checked_spec(self) -> ModelSpec:
        """The spec of a model that has one; ``ValueError`` if its problems have not been looked at first."""
        if self.spec is None:
            raise ValueError(f"{self.key} has no valid spec")
        return self.spec

    @property
    def priority(self) -> int:
        """What its spec says; 0 while that cannot be read."""
        return self.spec.placement.priority if self.spec is not None else 0

    @property
    def rank(self) -> tuple[int, datetime, str]:
        """In what order models are given room: by priority, then the older first."""
        return (-self.priority, *self.precedence)

    @property
    def precedence(self) -> tuple[datetime, str]:
        """Who comes first where two want the same: the older object, then its uid."""
        return (self.created, self.uid)
