"""``LocalModel``, as the API server has it. The text below each field is what ``kubectl explain`` prints.

A field is here from the day it does something. Python's side of it is :class:`roadstead.domain.model.Model`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from roadstead.adapters.kube.constraints import (
    Digest,
    DnsName,
    LabelKey,
    LabelValue,
    Rule,
    Seconds,
    ServedName,
    Source,
    Strict,
    Told,
)
from roadstead.domain.model import CacheType, Task

SLOT_ROWS = 64
"""Most rows in ``status.slots``; beyond it only the totals tell."""


class Variant(Strict):
    """One set of weights of the model in one precision."""

    name: DnsName
    """What you call it, unique within the model. It appears in status and in the answers' headers."""
    source: Source
    """Where the GGUF file is: file:///path (under a folder that the nodes' agents allow; every node has to have the
    same file), https://host/path, or http:// for hosts that the agents' settings name."""
    digest: Digest | None = None
    """What the file must hash to, if you want to be sure."""
    quality: Annotated[float, Field(ge=0, le=1)] | None = None
    """How good the variant is: 1.0 is the unquantized model. Each node serves the best variant that fits it; without
    this figure, what was measured of the file counts, else what is usual for its type and the model's size."""


class Requirements(Strict):
    """What each replica must be able to do, whatever variant it runs."""

    context_tokens: Annotated[int, Field(ge=64, le=16_777_216)] = 4096
    """Length of one sequence in tokens, prompt and answer together; memory grows with contextTokens times
    concurrency."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 1
    """Sequences that one replica serves at once."""
    cache_type: CacheType = CacheType.F16
    """What keys and values of the context are kept in: F16; Q8_0, about half of its memory and hardly noticed; Q4_0,
    about a quarter of it, which some models take badly."""
    min_tokens_per_second: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Tokens per second that one stream must get. A node that was seen to be slower is not used, as long as another has
    room; where nothing was measured yet, it is tried. A change makes no release."""
    max_time_to_first_token: Seconds | None = None
    """How long a prompt of 1,000 tokens may wait for its first answer, on a replica that has nothing else to do: 500ms,
    2s. Used as minTokensPerSecond is. A change makes no release."""
    min_quality: Annotated[float, Field(gt=0, le=1)] | None = None
    """Below it no variant is served, even if nothing else fits; by the figures of variants[].quality. A change makes no
    release."""


class Spread(Strict):
    """How evenly replicas are to lie over the values of a label of the nodes."""

    topology_key: LabelKey
    """The label that says where a node is: topology.kubernetes.io/zone, or kubernetes.io/hostname, by which a node gets
    a second replica only when every other one has its first. Nodes without the label are not used."""
    max_skew: Annotated[int, Field(ge=1, le=10_000)] = 1
    """A replica is not started where there would then be more than this many over the place with the fewest."""


class Placement(Strict):
    """Which nodes may serve the model. A change moves replicas and never makes a release."""

    pools: Annotated[
        tuple[Annotated[DnsName, Field(description="Name of a WorkerPool.")], ...],
        Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = Field(default=())
    """WorkerPools whose nodes may serve the model. None listed means all."""
    node_selector: Annotated[
        dict[str, Annotated[LabelValue, Field(description="Value of that label.")]], Field(max_length=16)
    ] = Field(default_factory=dict)
    """Labels that a node must have, as a Pod's nodeSelector."""
    spread: Spread | None = None
    """How evenly replicas are to lie over zones or nodes. It holds for what is started; what serves already stays."""
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    """Where there is not room for all, a model of higher priority takes it from those of lower, as far as it needs it
    to be served; between equal ones nothing is taken away."""


def _names_are_unique(variants: tuple[Variant, ...]) -> bool:
    return len({variant.name for variant in variants}) == len(variants)


class LocalModelSpec(Strict):
    """What you ask for."""

    served_name: ServedName | None = None
    """The short name that clients ask for; metadata.name if absent. Where two models newly claim a name, the older one
    gets it."""
    aliases: Annotated[
        tuple[Annotated[ServedName, Field(description="A short name.")], ...],
        Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = Field(default=())
    """Further short names, for instance of a hosted model that this one stands in for."""
    task: Task = Task.CHAT
    """What the model is asked to do: Chat (messages) or Completion (plain text)."""
    variants: Annotated[
        tuple[Variant, ...],
        Field(
            min_length=1,
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
        # The API server refuses a repeated key of a list-map by itself.
        Rule(None, "each variant must have a name of its own", _names_are_unique),
    ]
    """The ladder: the model in one precision or in several. Each node serves the best one that fits it; the order of
    the list does not matter."""
    requirements: Requirements = Field(default_factory=Requirements)
    """What each replica must be able to do, whatever variant it runs."""
    replicas: Annotated[int, Field(ge=0, le=10_000)] = 1
    """How many copies are served over all nodes; kubectl scale changes it. 0 stops serving and keeps the model and its
    releases."""
    placement: Placement = Field(default_factory=Placement)
    """Which nodes may serve the model; absent means any."""
    keep_releases: Annotated[int, Field(ge=1, le=100)] = 3
    """How many releases stay at hand, the newest ones, beside those in use: their weights stay on the nodes. The ledger
    keeps the record of all."""


class ReleaseStatus(Told):
    """The release that is served: the numbered, immutable set of what the ladder could run."""

    number: int
    """Its number; the ControllerRevision NAME-rNUMBER beside this object holds its contents."""
    digest: str
    """Hash over its contents; equal contents have equal digests."""
    previous: int | None = None
    """The release that was served before."""


class VariantStatus(Told):
    """One variant, chosen or not, with the reason."""

    name: str
    """The name in spec.variants."""
    quality: float | None = None
    """How good it is, 1.0 being the unquantized model: the spec's figure, else what was measured, else what is usual
    for its type and size."""
    bytes: int
    """Size of its files; 0 while not known."""
    chosen: int
    """Replicas that run it."""
    verdict: str
    """Reason code: Chosen, or what speaks against it."""
    message: str
    """The same in words, with the figures."""


class SlotMemory(Told):
    """Memory of one replica."""

    estimated: str
    """What was computed from the file's header before the start; the lease is taken for it."""
    measured: str | None = None
    """What the engine really uses, once measured."""


class SlotStatus(Told):
    """One content on one node: a Ray Serve application."""

    name: str
    """Name of the slot and of its application."""
    node: str
    """Name of the Node."""
    pool: str
    """The WorkerPool it was placed through."""
    releases: tuple[Annotated[int, Field(description="Number of a release.")], ...]
    """Releases that this content belongs to."""
    variant: str
    """The variant it runs."""
    engine: str
    """The engine that runs it."""
    replicas: int
    """Copies that are wanted here."""
    ready: int
    """Copies that answer."""
    weight: int
    """Its share of the requests among the model's slots."""
    memory: SlotMemory
    """Memory of one replica."""
    state: str
    """Reason code of where it stands: Fetching, Starting, Serving, Draining or what went wrong."""
    message: str
    """The same in words."""


class ConditionStatus(Told):
    """One aspect of how the model is."""

    type: str
    """Accepted (the spec can be acted on), Resolved (sources have digests), Placed (every replica has a node), Ready
    (it answers), Progressing (something is under way), Degraded (less than was asked for), Reconciling and Stalled (as
    kstatus reads them)."""
    status: Literal["True", "False", "Unknown"]
    """True, False or Unknown."""
    reason: str
    """Stable code of why; each is explained in the reference of reason codes."""
    message: str
    """Why in words, with what to do next."""
    observed_generation: int
    """Generation of the spec that this was said of."""
    last_transition_time: datetime
    """When status last changed to what it is now."""


class Printed(Told):
    """What kubectl get prints. For people: programs read the other fields."""

    status: str
    """One word for where the model stands."""
    ready: str
    """Ready replicas of those wanted."""
    variants: str
    """The variants that are served."""
    nodes: str
    """The nodes that serve it."""
    message: str
    """What a person should know first."""


class LocalModelStatus(Told):
    """What is. Written by the operator alone, and only when something changed that you would notice."""

    observed_generation: int | None = None
    """Generation of the spec that this status was planned from; older than metadata.generation means: not looked at
    yet."""
    served_name: str | None = None
    """The short name clients ask for, as it follows from the spec. Whether the model has it, Accepted tells."""
    release: ReleaseStatus | None = None
    """The release that is served; absent until the first one is made."""
    replicas: int | None = None
    """Replicas that exist, whatever their state (the scale subresource reads it)."""
    ready_replicas: int | None = None
    """Replicas that answer."""
    selector: str | None = None
    """Label selector of what belongs to the model (the scale subresource reads it)."""
    url: str | None = None
    """Base address for OpenAI clients."""
    variants: tuple[VariantStatus, ...] | None = None
    """One row for each variant, chosen or not, with the reason."""
    slots: Annotated[tuple[SlotStatus, ...], Field(max_length=SLOT_ROWS)] | None = None
    """One row for each content on each node, 64 at most; replicas and readyReplicas count all."""
    conditions: (
        Annotated[
            tuple[ConditionStatus, ...],
            Field(
                max_length=32,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
            ),
        ]
        | None
    ) = None
    """How the model is, one aspect a row; `kubectl wait --for=condition=Ready` waits for one.

    Observed says whether all is known that it follows from: while it is False, nothing is removed on that account.
    """
    printed: Printed | None = None
    """What kubectl get prints. For people: programs read the other fields."""


class LocalModel(Strict):
    """A language model to be served: its variants, what a replica must be able to do, and how many there should be.

    Roadstead picks for each node the best variant that fits it.
    """

    spec: LocalModelSpec
    """What you ask for."""
    status: LocalModelStatus | None = None
    """What is. Written by the operator alone, and only when something changed that you would notice."""
