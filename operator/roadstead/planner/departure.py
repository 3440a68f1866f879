"""The end of a LocalModel: everything it had goes, in an order that lets streams finish, and only then its finalizer.

Deletion is a person's word, so it waits neither for the ledger nor for ever for the gateways. What it does wait for is
knowledge: the finalizer stays until every cell is Known to hold nothing of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from roadstead.domain.model import Model
from roadstead.domain.plan import ClearFinalizer, ForgetWeights, WithdrawRoute
from roadstead.domain.snapshot import AgentFacts, Known, ObservedSlot
from roadstead.planner.transition import is_drained
from roadstead.planner.view import View

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


def plan_departure(model: Model, *, view: View, now: datetime) -> Departure:
    """Withdraw the route, drain and remove the slots, forget the weights, clear the finalizer."""
    snapshot = view.snapshot
    route = snapshot.routes.get(model.key)
    slots = view.slots_of(model.key)
    overdue = model.deleted is not None and now - model.deleted >= PATIENCE
    gone = route is None
    removable = tuple(
        slot
        for slot in slots
        if slot.configured and slot.node in view.seen and gone and (overdue or is_drained(model, slot.name, view))
    )
    leases = sum(view.leases_of(name) for name in {slot.name for slot in slots})
    unseen = [cell.name for cell in snapshot.cells if not isinstance(cell.facts, Known)]
    empty = gone and not slots and not leases and not unseen
    forget = _forgotten(model, view) if empty else ()
    clear = ClearFinalizer(model=model) if empty and not forget and model.finalized else None
    return Departure(
        withdraw=WithdrawRoute(route=route) if route is not None else None,
        remove=removable,
        forget=forget,
        clear=clear,
        message=_message(gone=gone, slots=slots, leases=leases, unseen=unseen),
        wake_after_seconds=None if overdue or not slots else PATIENCE.total_seconds(),
    )


def _forgotten(model: Model, view: View) -> tuple[ForgetWeights, ...]:
    """The model's artifacts on nodes that answer, unless another model refers to them."""
    known: list[tuple[str, AgentFacts]] = [
        (node, part.value) for node, part in sorted(view.snapshot.agents.items()) if isinstance(part, Known)
    ]
    return tuple(
        ForgetWeights(node=node, digest=weight.digest)
        for node, facts in known
        for weight in facts.weights
        if view.owners_of(weight.digest) == {model.uid}
    )


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
