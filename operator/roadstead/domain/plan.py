"""What the fleet should look like next, with the reason for every choice.

A plan is a value: the acting side carries it out and the publishing side tells it, neither decides anything again.
Every action is idempotent, so a crash between any two of them leads to the same plan from the next snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from roadstead.domain.model import ConditionStatus, Model, ModelKey
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Artifact, Content, Release
from roadstead.domain.slot import Slot
from roadstead.domain.snapshot import EngineBuild, Pool, ResolutionKey, Route
from roadstead.domain.supposition import Place
from roadstead.domain.workload import ClaimWish, PodWish


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Accepted or refused, with a reason code and words."""

    reason: Reason
    message: str


class QualityOrigin(StrEnum):
    """Where the figure of a variant's quality is from; in this order, the first that there is counts."""

    GIVEN = "Given"
    """In the spec."""
    MEASURED = "Measured"
    """In a record of this very artifact."""
    USUAL = "Usual"
    """For the file's type and the model's size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantReport:
    """One row of ``status.variants``: chosen or not, with the reason."""

    name: str
    quality: float | None
    quality_origin: QualityOrigin | None = None
    bytes: int
    chosen: int
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotReport:
    """One row of ``status.slots``."""

    name: str
    node: str
    pool: str
    releases: tuple[int, ...]
    variant: str
    engine: str
    replicas: int
    ready: int
    weight: int
    memory_estimated: int
    memory_measured: int
    state: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionReport:
    """A condition without a time: the publishing side adds when it flipped."""

    type: str
    status: ConditionStatus
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """What ``status`` says about a model."""

    model: Model
    release: Release | None
    previous: int | None
    replicas: int
    ready: int
    variants: tuple[VariantReport, ...] = ()
    slots: tuple[SlotReport, ...] = ()
    conditions: tuple[ConditionReport, ...] = ()
    status: str = ""
    """One word for the STATUS column."""
    places: tuple[Place, ...] = ()
    """Where its replicas should be, once everything that is under way is done."""

    @property
    def pending(self) -> int:
        """Replicas that find no place as the release wants them, though others may stand in for them meanwhile."""
        wanted = self.model.spec.replicas if self.model.spec is not None else 0
        current = {content.hash for content in self.release.contents} if self.release is not None else None
        placed = (place.replicas for place in self.places if current is None or place.content in current)
        return max(0, wanted - sum(placed))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """One row of a WorkerPool's ``status.engines``."""

    engine: str
    adopted: str
    """The image whose workers serve; empty before the first was adopted."""
    offered: str
    """The image in ``spec.engines``; empty if the spec no longer names the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """What ``status`` says about a pool."""

    pool: Pool
    nodes: int
    workers: int
    """Worker Pods that should be there."""
    ready: int
    """Of these, the ones that are Ready and whose raylet lives."""
    engines: tuple[EngineReport, ...] = ()
    conditions: tuple[ConditionReport, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Incarnation:
    """One LocalModel object, for the ledger: open while the API server has it."""

    key: ModelKey
    uid: str
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One slot that exists, for the ledger."""

    slot: str
    model: ModelKey
    content: str
    node: str
    replicas: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the ledger compares its open rows with. Rows that are missing here are closed, rows that are new opened."""

    incarnations: tuple[Incarnation, ...]
    placements: tuple[Placement, ...] | None
    """None when not every cell is Known: then no placement is closed or opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFinalizer:
    model: Model


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearFinalizer:
    """Everything the model had is gone."""

    model: Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve:
    """Ask an agent what is behind a source."""

    key: ResolutionKey


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeRelease:
    """Have the ledger number this set of contents, then keep it as a ControllerRevision."""

    model: Model
    contents: tuple[Content, ...]
    above: int = 0
    """The highest number that the API server holds for this model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetRelease:
    """Keep a release no longer at hand: the ledger has its record, and nothing runs it."""

    model: Model
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchWeights:
    """Bring an artifact into a node's store."""

    node: str
    artifact: Artifact
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetWeights:
    """Cancel a fetch or remove an artifact that nothing refers to any more."""

    node: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigureCell:
    """Change a cell's slots, if it still has this base.

    Ray replaces the configuration as a whole; the adapter carries over, word for word, every application that is named
    neither here nor there, so only what is listed in ``remove`` can ever vanish.
    """

    cell: str
    base: str
    put: tuple[Slot, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRoute:
    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawRoute:
    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordAdoption:
    """Keep which engine builds of a pool are adopted."""

    pool: str
    engines: tuple[EngineBuild, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepClaim:
    """Have a claim for a node's weights. It is never changed and never removed."""

    claim: ClaimWish


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPod:
    """Have this Pod. One that has the name is left as it is."""

    pod: PodWish


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePod:
    """Delete this very Pod, and no later one of its name."""

    name: str
    uid: str
    grace_seconds: int | None = None
    """None: the Pod's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectPod:
    """Have a PodDisruptionBudget that keeps evictions off the Pod of this name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnprotectPod:
    """Delete the PodDisruptionBudget of this name."""

    name: str


Action = (
    SetFinalizer
    | ClearFinalizer
    | Resolve
    | MakeRelease
    | ForgetRelease
    | FetchWeights
    | ForgetWeights
    | ConfigureCell
    | PublishRoute
    | WithdrawRoute
    | RecordAdoption
    | KeepClaim
    | RunPod
    | RemovePod
    | ProtectPod
    | UnprotectPod
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """The actions of this turn, in the order in which they are carried out, and what to tell of models and pools."""

    actions: tuple[Action, ...] = ()
    reports: tuple[ModelReport, ...] = ()
    """One a model; of a model at rest the very object that the plan before had."""
    pools: tuple[PoolReport, ...] = ()
    held: tuple[ModelKey, ...] = ()
    """Models that have routes or slots and no LocalModel, too many at once to believe that they are gone."""
    assignment_gap: float | None = None
    """Where models wanted the same room: share of the bound on what they can be worth together that was not reached."""
    wake_after_seconds: float | None = None
    """When the plan should be looked at again although nothing happened (a retry that is due)."""
