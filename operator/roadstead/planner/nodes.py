"""Which nodes may serve a model, and why the others may not.

A node's checks are a tuple, one a line: the first that speaks decides, and what it says is what a person reads. Room
for the model's memory is not among them; that depends on the variant and is asked in ``placement``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from roadstead.domain.model import ModelSpec
from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.domain.snapshot import (
    AgentFacts,
    Cell,
    FleetSnapshot,
    Known,
    Node,
    Part,
    Pool,
    Unknown,
)

_BLOCKING_EFFECTS = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A node with all that is known about serving on it."""

    node: Node
    pool: Pool | None
    agent: Part[AgentFacts]
    cell: Cell | None

    @property
    def facts(self) -> AgentFacts | None:
        """What the agent says now; None unless it is Known."""
        return self.agent.value if isinstance(self.agent, Known) else None


def seats(snapshot: FleetSnapshot) -> Mapping[str, Seat]:
    """Every node of the API server, by name."""
    cells = {node: cell for cell in snapshot.cells for node in cell.nodes}
    return {
        name: Seat(
            node=node,
            pool=pool_of(node, snapshot.pools),
            agent=snapshot.agents.get(name, Unknown("no agent is known on this node")),
            cell=cells.get(name),
        )
        for name, node in sorted(snapshot.nodes.items())
    }


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


def lost(seat: Seat | None) -> bool:
    """Whether the API server is sure that nothing runs there: the node is gone or has stopped answering."""
    return seat is None or not seat.node.ready


def _ready(seat: Seat, _spec: ModelSpec) -> Verdict | None:
    if seat.node.ready:
        return None
    return Verdict(reason=Reason.NODE_NOT_READY, message="is not Ready")


def _schedulable(seat: Seat, _spec: ModelSpec) -> Verdict | None:
    if not seat.node.unschedulable:
        return None
    return Verdict(reason=Reason.NODE_NOT_SELECTED, message="is cordoned")


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
    if seat.node.name not in seat.cell.facts.value.nodes:
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
