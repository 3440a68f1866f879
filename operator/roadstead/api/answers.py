"""What the read API answers: the shapes, and nothing that makes them.

The CLI reads the same shapes, so a field that is added here is optional there. No address of a replica, no secret and
no prompt has a field. Names are camelCase, as in the resources; sizes are bytes; times are RFC 3339.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Answer(BaseModel):
    """Base of everything that is answered. Unknown fields are ignored: a newer operator may say more."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )


class Problem(Answer):
    """Why there is no answer."""

    code: str = Field(description="A stable word for scripts and for searching the documentation.")
    message: str = Field(description="What happened, as a sentence.")
    remedy: str = Field(description="What to do about it.")
    object: str = Field(default="", description="The object, field or path that it is about.")


class Origin(Answer):
    """Whose view an answer is, and how old it is."""

    leading: bool = Field(
        description="Whether the operator that answers is the one that acts. A standby tells what it would do."
    )
    planned_at: datetime = Field(description="When the fleet was looked at and planned for.")
    age_seconds: float = Field(description="How long ago that was.", ge=0)


class Condition(Answer):
    """One condition, as in `status.conditions`."""

    type: str
    status: str = Field(description="`True`, `False` or `Unknown`.")
    reason: str = Field(description="A reason code; the reference has cause and remedy of each.")
    message: str


class Variant(Answer):
    """One rung of a model's ladder, chosen or not, and why."""

    name: str
    quality: float | None = Field(description="1.0 is the unquantized model.")
    quality_origin: str | None = Field(
        default=None,
        description="`Given` in the spec, `Measured` of this very file, or `Usual` for its type and the model's size.",
    )
    bytes: int = Field(description="Size of its weights; 0 while unknown.")
    chosen: int = Field(description="Replicas that run it, or should.")
    verdict: str = Field(description="`Chosen`, or the reason code of its refusal.")
    message: str = Field(description="Where it was chosen, and for every other node why not.")


class Slot(Answer):
    """A model's content on one node."""

    name: str
    model: str = Field(description="`namespace/name` of the LocalModel.")
    node: str
    pool: str
    variant: str
    engine: str
    releases: tuple[int, ...] = Field(description="Releases that contain what it serves.")
    replicas: int
    ready: int
    weight: int = Field(description="Its share of the model's requests.")
    memory_estimated_bytes: int
    memory_measured_bytes: int = Field(description="0 until it was measured.")
    state: str = Field(description="A reason code.")
    message: str


class Release(Answer):
    """The release a model is on."""

    number: int
    digest: str
    previous: int | None = Field(default=None, description="The number before it.")


class ModelSummary(Answer):
    """A LocalModel in one row."""

    namespace: str
    name: str
    served_name: str | None = Field(description="What clients call it; null while the spec cannot be read.")
    status: str = Field(description="One word.")
    wanted: int = Field(description="Replicas asked for.")
    ready: int = Field(description="Replicas that answer.")
    release: int | None
    variants: tuple[str, ...] = Field(description="Variants that answer.")
    nodes: tuple[str, ...] = Field(description="Nodes on which it answers.")
    message: str = Field(description="The most telling condition's.")


class ModelDetail(ModelSummary):
    """A LocalModel with the reason for every choice."""

    aliases: tuple[str, ...]
    generation: int
    deleting: bool
    current: Release | None
    ladder: tuple[Variant, ...]
    slots: tuple[Slot, ...]
    conditions: tuple[Condition, ...]


class Source(Answer):
    """How well a part of the fleet is known."""

    state: str = Field(description="`Known`, `Stale` (it answered once, but not lately) or `Unknown`.")
    since: datetime | None = Field(default=None, description="When a stale part answered last.")
    why: str = Field(default="", description="Why an unknown part is unknown.")


class Weights(Answer):
    """One artifact in a node's store."""

    digest: str
    phase: str = Field(description="`Fetching`, `Ready` or `Failed`.")
    bytes_total: int
    bytes_done: int
    code: str = Field(description="A reason code, if it failed.")
    message: str


class Device(Answer):
    """An accelerator, or a slice of one."""

    product: str
    vendor: str
    memory_bytes: int
    free_bytes: int | None = Field(default=None, description="That no process holds; null while no agent tells.")
    mig_profile: str = Field(default="", description="Of a slice; empty for a whole card.")
    clients: int = Field(default=1, description="Processes that the cluster hands it to at once.")


class NodeSlot(Answer):
    """A slot as its cell tells it."""

    name: str
    model: str
    variant: str
    release: int
    replicas: int
    ready: int
    status: str = Field(description="Ray's own word.")


class Pod(Answer):
    """An agent's or a worker's Pod."""

    name: str
    role: str = Field(description="`agent` or `worker`.")
    image: str
    ready: bool
    deleting: bool


class Node(Answer):
    """A machine and what is known of it."""

    name: str
    pool: str = Field(description="Empty: it belongs to none.")
    cell: str = Field(description="The Ray cell of its workers; empty: none.")
    ready: bool
    unschedulable: bool
    taints: tuple[str, ...] = Field(description="`key=value:effect`.")
    agent: Source
    cell_source: Source = Field(description="How well its cell is known.")
    cores: int | None = Field(description="That engines may use; null while its agent is unknown.")
    memory_budget_bytes: int | None = Field(description="That engines may use together.")
    memory_free_bytes: int | None = Field(description="Of that, what is free now.")
    disk_free_bytes: int | None
    devices: tuple[Device, ...] = Field(
        default=(), description="Accelerators that are certain: by its agent, else by a DRA driver, else by labels."
    )
    ambiguities: tuple[str, ...] = Field(
        default=(), description="What is not certain of its accelerators, because it is contradicted or not told."
    )
    engines: tuple[str, ...] = Field(description="`Engine image` of what replicas there can start.")
    weights: tuple[Weights, ...]
    slots: tuple[NodeSlot, ...]
    pods: tuple[Pod, ...] = Field(default=(), description="Of agent and workers, where these are Pods.")


class PoolEngine(Answer):
    """An engine of a pool."""

    engine: str
    adopted: str = Field(description="The image whose workers serve; empty before the first was adopted.")
    offered: str = Field(description="The image in the spec.")


class Pool(Answer):
    """A WorkerPool."""

    name: str
    node_selector: dict[str, str]
    nodes: tuple[str, ...]
    workers: int = Field(description="Worker Pods that should be there; 0 where workers are not Pods.")
    workers_ready: int
    engines: tuple[PoolEngine, ...]
    conditions: tuple[Condition, ...]


class Action(Answer):
    """One thing that the plan does, or would."""

    kind: str
    object: str = Field(description="What it is done to.")
    message: str


class Place(Answer):
    """Replicas of a variant on a node."""

    node: str
    variant: str
    replicas: int


class Term(Answer):
    """One of the figures that add up to what a replica is worth."""

    name: str = Field(
        description="`served`: that it is served at all; `quality`; `rung`: what it loses to variants before it that "
        "are as good; `weights`: that they are on the node."
    )
    value: float


class Rung(Answer):
    """A variant, wherever it may run."""

    name: str
    bytes: int = Field(description="Size of its file; 0 while not known.")
    quality: float | None = Field(description="1.0 is the unquantized model.")
    quality_origin: str | None = Field(
        description="`Given` in the spec, `Measured` of this very file, or `Usual` for its type and the model's size."
    )
    verdict: str = Field(description="Why it can run nowhere, as a reason code; empty if it may.")
    message: str


class Option(Answer):
    """A variant on nodes that are alike to it: of one pool, about one size, and with one verdict."""

    variant: str
    pool: str = Field(description="Empty: the nodes belong to none.")
    nodes: int = Field(description="How many there are.")
    example: str = Field(description="The emptiest of them; the figures are its own.")
    verdict: str = Field(description="`Chosen`, `Fits`, or the reason code of the refusal.")
    message: str
    replicas: int = Field(description="That are placed on these nodes.")
    needed_bytes: int = Field(description="Host memory of a replica, as computed from the file's header.")
    devices: int = Field(default=0, description="Accelerators of a replica; 0: it runs on the processor.")
    device_bytes: int = Field(default=0, description="Memory of a replica on each of its accelerators.")
    device_free_bytes: int = Field(default=0, description="What the model may use on the emptiest accelerator.")
    measured_bytes: int = Field(description="As it was measured there; 0 if it never ran.")
    free_bytes: int | None = Field(description="Memory that the model may use; null while the agent is not known.")
    budget_bytes: int | None = Field(description="Memory that all engines together may use.")
    tokens_per_second: float | None = Field(description="Of one stream; null if nothing is known.")
    speed_from: str = Field(
        description="`Measured`: of this very content there; `Expected`: by what else was seen there; `Computed`: from "
        "how fast memory is; empty: not known."
    )
    worth: float = Field(description="Of a replica there: the sum of the terms.")
    terms: tuple[Term, ...]


class Choice(Answer):
    """Replicas that have a place, and what was passed over for it."""

    node: str
    variant: str
    replicas: int
    worth: float = Field(description="Of a replica there: the sum of the terms.")
    terms: tuple[Term, ...] = Field(description="Empty where it stands in for another release.")
    passed_over: tuple[Option, ...] = Field(description="The three that would be worth most, and why not.")


class Explanation(Answer):
    """Every variant on every kind of node."""

    namespace: str
    name: str
    wanted: int = Field(description="Replicas asked for.")
    pending: int = Field(description="Replicas that find no place.")
    why: str = Field(description="What keeps them from one, or why nothing can be said; else empty.")
    variants: tuple[Rung, ...] = Field(description="The best first, then those that can run nowhere.")
    options: tuple[Option, ...]
    choices: tuple[Choice, ...]


class Difference(Answer):
    """What would become of a model."""

    namespace: str
    name: str
    stops: tuple[Place, ...]
    starts: tuple[Place, ...]
    pending: int = Field(description="Replicas that find no place now.")
    pending_then: int = Field(description="Replicas that would find none.")
    why: str = Field(
        description="What would keep them from one, or what is not known of a new model's sources; else empty."
    )


class ModelList(Origin):
    """All LocalModels, ordered by namespace and name."""

    items: tuple[ModelSummary, ...]


class ModelAnswer(Origin):
    """One LocalModel."""

    model: ModelDetail


class NodeList(Origin):
    """All nodes, ordered by name."""

    items: tuple[Node, ...]


class PoolList(Origin):
    """All WorkerPools, ordered by name."""

    items: tuple[Pool, ...]


class PlanAnswer(Origin):
    """The last plan: actions in their order, and what is told of each model."""

    actions: tuple[Action, ...]
    models: tuple[ModelDetail, ...]
    wake_after_seconds: float | None = Field(description="When it is looked at again although nothing happens.")
    cells: dict[str, Source]
    gateways: dict[str, Source]
    ledger: Source


class WhatIfAnswer(Origin):
    """What a change would do that nobody has made."""

    models: tuple[Difference, ...] = Field(description="Those that would fare otherwise, by namespace and name.")
    unchanged: int = Field(description="How many others there are.")


class ExplainAnswer(Origin):
    """Why a model runs where it runs."""

    model: Explanation


class FitAnswer(Origin):
    """Where a model could run that nobody has applied."""

    model: Explanation
    placed: bool = Field(description="Whether all its replicas would find a place now.")
