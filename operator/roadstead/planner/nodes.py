"""Which nodes may serve a model, and why the others may not.

A node's checks are a tuple, one a line: the first that speaks decides, and what it says is what a person reads. Room
for the model's memory is not among them; that depends on the variant and is asked in ``verdicts``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from roadstead.domain.model import ModelSpec
from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Artifact
from roadstead.domain.snapshot import (
    AgentFacts,
    Cell,
    FleetSnapshot,
    Known,
    Node,
    ObservedSlot,
    Part,
    Pool,
    Raylet,
    Unknown,
    WeightPhase,
    image_label,
)
from roadstead.domain.workload import PodRole

_BLOCKING_EFFECTS = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A node with all that is known about serving on it."""

    node: Node
    pool: Pool | None
    agent: Part[AgentFacts]
    cell: Cell | None
    closed: Mapping[str, str] = field(default_factory=dict)
    """By label of an image: why nothing starts on its worker here, and what is there moves away."""
    awaited: frozenset[str] = frozenset()
    """Labels of images whose worker Pod stands here, and whose raylet will live soon."""
    manned: bool = False
    """Whether its workers are Pods, so that an engine is there when a raylet of its image lives."""

    @property
    def facts(self) -> AgentFacts | None:
        """What the agent says now; None unless it is Known."""
        return self.agent.value if isinstance(self.agent, Known) else None

    def has(self, artifact: Artifact) -> bool:
        """Whether its agent says now that the artifact lies in its store, ready to be served."""
        weight = self.facts.weight(artifact.digest) if self.facts is not None else None
        return weight is not None and weight.phase is WeightPhase.READY


def seats(snapshot: FleetSnapshot, closed: Mapping[str, Mapping[str, str]] | None = None) -> Mapping[str, Seat]:
    """Every node of the API server, by name; ``closed`` is :attr:`Seat.closed` by node."""
    named = {cell.name: cell for cell in snapshot.cells}
    cells = {node: cell for cell in snapshot.cells for node in cell.nodes}
    awaited: defaultdict[str, set[str]] = defaultdict(set)
    for pod in snapshot.pods:
        if pod.role is PodRole.WORKER and not pod.deleting and not pod.finished:
            awaited[pod.node].add(image_label(pod.image))
    places: dict[str, Seat] = {}
    for name, node in sorted(snapshot.nodes.items()):
        pool = pool_of(node, snapshot.pools)
        manned = snapshot.workloads is not None and pool is not None and pool.workers is not None
        joined = named.get(pool.workers.cell) if manned and pool is not None and pool.workers is not None else None
        places[name] = Seat(
            node=node,
            pool=pool,
            agent=snapshot.agents.get(name, Unknown("no agent is known on this node")),
            cell=joined or cells.get(name),
            closed=(closed or {}).get(name, {}),
            awaited=frozenset(awaited[name]),
            manned=manned,
        )
    return places


def pool_of(node: Node, pools: tuple[Pool, ...]) -> Pool | None:
    """The pool a node belongs to: of those whose selector matches, the first by name."""
    labels = frozenset(node.labels)
    return next(
        (pool for pool in sorted(pools, key=lambda pool: pool.name) if labels.issuperset(pool.node_selector)), None
    )


def selection_verdict(seat: Seat, spec: ModelSpec) -> Verdict | None:
    """None if policy lets the model onto this node, whatever state the node is in."""
    if seat.pool is None:
        return Verdict(reason=Reason.NODE_NOT_SELECTED, message="belongs to no WorkerPool")
    if spec.placement.pools and seat.pool.name not in spec.placement.pools:
        return Verdict(
            reason=Reason.NODE_NOT_SELECTED,
            message=f"is in pool {seat.pool.name}; spec.placement.pools names {', '.join(spec.placement.pools)}",
        )
    missing = [f"{key}={value}" for key, value in spec.placement.node_selector if (key, value) not in seat.node.labels]
    if missing:
        return Verdict(reason=Reason.NODE_NOT_SELECTED, message=f"lacks the label {missing[0]}")
    return None


def start_verdict(seat: Seat, spec: ModelSpec) -> Verdict | None:
    """None if something may be started on this node for this model now."""
    return next((verdict for check in _CHECKS if (verdict := check(seat, spec)) is not None), None)


def closing(seat: Seat, image: str) -> Verdict | None:
    """None if an engine of this image may stay on the node; else it moves away as soon as it can."""
    if seat.node.unschedulable:
        return Verdict(reason=Reason.NODE_CORDONED, message="is cordoned")
    why = seat.closed.get(image_label(image))
    return Verdict(reason=Reason.NODE_CORDONED, message=why) if why is not None else None


class Haste(IntEnum):
    """How soon a slot that leaves should go: what is worth least first."""

    LOST = 0
    """Nothing runs there any more."""
    CLOSING = 1
    """Its node waits for it."""
    NONE = 2


def haste(seats: Mapping[str, Seat], slot: ObservedSlot) -> Haste:
    """Why a leaving slot leaves, as far as that is its node's doing."""
    seat = seats.get(slot.node)
    if seat is None or lost(seat):
        return Haste.LOST
    return Haste.NONE if closing(seat, slot.engine_image) is None else Haste.CLOSING


def engine_verdict(seat: Seat, *, engine: str, image: str) -> Verdict | None:
    """None if the node can start this very build: its agent offers it, or a worker of its image lives there."""
    if seat.manned:
        cell = seat.cell.facts if seat.cell is not None else None
        raylets = cell.value.raylets if isinstance(cell, Known) else frozenset[Raylet]()
        if Raylet(seat.node.name, image_label(image)) not in raylets:
            return Verdict(reason=Reason.ENGINE_UNAVAILABLE, message=f"has no living worker of {image}")
        return closing(seat, image)
    offered = seat.facts.engines if seat.facts is not None else ()
    if not any((build.engine, build.identity) == (engine, image) for build in offered):
        return Verdict(reason=Reason.ENGINE_UNAVAILABLE, message=f"does not offer {image}")
    return None


def awaits(seat: Seat, image: str) -> bool:
    """Whether an engine of this image can be counted on here although its worker has only just been made."""
    return seat.manned and image_label(image) in seat.awaited and closing(seat, image) is None


def lost(seat: Seat | None) -> bool:
    """Whether nothing can be running there: the node is gone, or neither the API server nor its cell hears of it.

    An API server that was away calls Nodes not Ready until each of them has reported, and so it does for good when a
    kubelet dies. What runs there serves on, and the head of its cell, whose raylet lives there, knows that.
    """
    return seat is None or not (seat.node.ready or _raylet_lives(seat))


def _raylet_lives(seat: Seat) -> bool:
    cell = seat.cell.facts if seat.cell is not None else None
    return isinstance(cell, Known) and seat.node.name in cell.value.nodes


def _ready(seat: Seat, _spec: ModelSpec) -> Verdict | None:
    if seat.node.ready:
        return None
    return Verdict(reason=Reason.NODE_NOT_READY, message="is not Ready")


def _schedulable(seat: Seat, _spec: ModelSpec) -> Verdict | None:
    if not seat.node.unschedulable:
        return None
    return Verdict(reason=Reason.NODE_CORDONED, message="is cordoned")


def _taints_tolerated(seat: Seat, _spec: ModelSpec) -> Verdict | None:
    taint = next((taint for taint in seat.node.taints if taint.effect in _BLOCKING_EFFECTS), None)
    if taint is None:
        return None
    return Verdict(reason=Reason.TAINT_NOT_TOLERATED, message=f"has the taint {taint.key}:{taint.effect}")


def _agent_known(seat: Seat, _spec: ModelSpec) -> Verdict | None:
    if seat.facts is not None:
        return None
    why = seat.agent.why if isinstance(seat.agent, Unknown) else "its agent has stopped answering"
    return Verdict(reason=Reason.AGENT_UNAVAILABLE, message=why)


def _cell_known(seat: Seat, _spec: ModelSpec) -> Verdict | None:
    if seat.cell is None:
        return Verdict(reason=Reason.CELL_UNAVAILABLE, message="belongs to no cell")
    if not isinstance(seat.cell.facts, Known):
        return Verdict(reason=Reason.CELL_UNAVAILABLE, message=f"the head agent of {seat.cell.name} does not answer")
    if not _raylet_lives(seat):
        return Verdict(reason=Reason.CELL_UNAVAILABLE, message=f"has no living raylet in {seat.cell.name}")
    return None


_CHECKS: tuple[Callable[[Seat, ModelSpec], Verdict | None], ...] = (
    selection_verdict,  # the team's and the platform's choice comes first: it is what a person would change
    _ready,  # the node answers the API server
    _schedulable,  # not cordoned
    _taints_tolerated,  # nothing keeps pods off it
    _agent_known,  # its agent answers, so its free memory is known
    _cell_known,  # its raylet lives in a cell that can be written to
)
