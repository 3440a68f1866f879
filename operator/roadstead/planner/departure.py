"""The end of a LocalModel: everything it had goes, in an order that lets streams finish, and only then its finalizer.

Deletion is a person's word, so it waits neither for the ledger nor for ever for the gateways. What it does wait for is
knowledge: the finalizer stays until every cell is Known to hold nothing of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from roadstead.domain.model import Model, ModelKey
from roadstead.domain.plan import ClearFinalizer, ForgetWeights, WithdrawRoute
from roadstead.domain.snapshot import AgentFacts, FleetSnapshot, Known, ObservedSlot, Resolved, latest
from roadstead.planner.transition import is_drained

PATIENCE = timedelta(seconds=30)
"""How long gateways may keep sending before the slots go anyway; the replicas themselves let streams finish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """This turn's steps towards a model's end."""

    withdraw: WithdrawRoute | None
    remove: tuple[ObservedSlot, ...]
    forget: tuple[ForgetWeights, ...]
    clear: ClearFinalizer | None
    message: str
    """What is being waited for."""
    wake_after_seconds: float | None = None


def plan_departure(model: Model, *, snapshot: FleetSnapshot, now: datetime) -> Departure:
    """Withdraw the route, drain and remove the slots, forget the weights, clear the finalizer."""
    route = snapshot.routes.get(model.key)
    slots = slots_of(model.key, snapshot)
    overdue = model.deleted is not None and now - model.deleted >= PATIENCE
    gone = route is None
    removable = tuple(
        slot
        for slot in slots
        if slot.configured
        and _cell_known(slot, snapshot)
        and gone
        and (overdue or is_drained(model, slot.name, snapshot))
    )
    leases = _leases(slots, snapshot)
    empty = gone and not slots and not leases
    forget = _forgotten(model, snapshot) if empty else ()
    unseen = [cell.name for cell in snapshot.cells if not isinstance(cell.facts, Known)]
    clear = ClearFinalizer(model=model) if empty and not forget and not unseen and model.finalized else None
    return Departure(
        withdraw=WithdrawRoute(route=route) if route is not None else None,
        remove=removable,
        forget=forget,
        clear=clear,
        message=_message(gone=gone, slots=slots, leases=leases, unseen=unseen),
        wake_after_seconds=None if overdue or not slots else PATIENCE.total_seconds(),
    )


def slots_of(model: ModelKey, snapshot: FleetSnapshot) -> tuple[ObservedSlot, ...]:
    """Every slot of a model that any cell ever told of, the configured and the ones being torn down."""
    return tuple(
        slot
        for cell in snapshot.cells
        if (facts := latest(cell.facts)) is not None
        for slot in facts.slots
        if slot.model == model
    )


def _leases(slots: tuple[ObservedSlot, ...], snapshot: FleetSnapshot) -> int:
    """Leases of the model's slots that living engines still hold."""
    names = {slot.name for slot in slots}
    return sum(
        lease.slot in names
        for part in snapshot.agents.values()
        if (facts := latest(part)) is not None
        for lease in facts.leases
    )


def _cell_known(slot: ObservedSlot, snapshot: FleetSnapshot) -> bool:
    return any(isinstance(cell.facts, Known) and slot.node in cell.nodes for cell in snapshot.cells)


def _forgotten(model: Model, snapshot: FleetSnapshot) -> tuple[ForgetWeights, ...]:
    """The model's artifacts on nodes that answer, unless another model refers to them."""
    others = {other for m in snapshot.models if m.uid != model.uid for other in _digests(m, snapshot)}
    mine = _digests(model, snapshot) - others
    known: list[tuple[str, AgentFacts]] = [
        (node, part.value) for node, part in sorted(snapshot.agents.items()) if isinstance(part, Known)
    ]
    return tuple(
        ForgetWeights(node=node, digest=weight.digest)
        for node, facts in known
        for weight in facts.weights
        if weight.digest in mine
    )


def _digests(model: Model, snapshot: FleetSnapshot) -> set[str]:
    digests = {
        content.artifact.digest for release in snapshot.releases.get(model.uid, ()) for content in release.contents
    }
    if model.spec is not None:
        sources = {variant.source for variant in model.spec.variants}
        digests |= {variant.digest for variant in model.spec.variants if variant.digest is not None}
        digests |= {
            answer.artifact.digest
            for key, answer in snapshot.resolutions.items()
            if isinstance(answer, Resolved) and key.source in sources
        }
    return digests


def _message(*, gone: bool, slots: tuple[ObservedSlot, ...], leases: int, unseen: list[str]) -> str:
    if not gone:
        return "its route is being withdrawn"
    if slots:
        return f"{len(slots)} slots are being drained and removed"
    if leases:
        return f"{leases} engines are ending"
    if unseen:
        return f"waiting for {', '.join(unseen)} to say that nothing of it is left"
    return "its weights are being removed"
