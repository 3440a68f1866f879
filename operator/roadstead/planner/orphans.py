"""What is there without a LocalModel: routes, slots and weights that nothing refers to.

A LocalModel cannot vanish without us, because our finalizer holds it. So one that is missing while it still has a route
or slots was either freed by somebody's hand, which happens to one at a time, or is missing from what the API server
tells: it was restored from an older backup, or its list is wrong. The first is cleaned up; of the second nothing is
removed, however long it lasts (see docs/adr/0023). Weights are cheap to keep, so they go only when it is sure that
nothing refers to them.
"""

from __future__ import annotations

from dataclasses import dataclass

from roadstead.domain.model import ModelKey
from roadstead.domain.plan import ForgetWeights
from roadstead.domain.snapshot import Known, ObservedSlot, Route, WeightPhase
from roadstead.planner.view import View

_MODELS_TO_AN_ORPHAN = 20
"""One more model may be swept for so many that are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """What may go, and whose things are kept although their LocalModel is not there."""

    withdraw: tuple[Route, ...] = ()
    remove: tuple[ObservedSlot, ...] = ()
    held: tuple[ModelKey, ...] = ()


def find_orphans(view: View) -> Orphans:
    """Slots of cells that are Known, and routes, whose model is not there."""
    snapshot = view.snapshot
    there = {model.key for model in snapshot.models}
    routes = {key: route for key, route in snapshot.routes.items() if key not in there}
    slots = tuple(slot for slot in view.slots if slot.model not in there)
    keys = tuple(sorted(routes.keys() | {slot.model for slot in slots if slot.configured}))
    if len(keys) > sweepable(len(there)):
        return Orphans(held=keys)
    return Orphans(
        withdraw=tuple(routes.values()),
        remove=tuple(
            slot for slot in slots if slot.configured and slot.node in view.seen and slot.model not in snapshot.routes
        ),
    )


def sweepable(models: int) -> int:
    """How many models without a LocalModel are believed to be gone, beside so many that are there."""
    return 1 + models // _MODELS_TO_AN_ORPHAN if models else 0


def orphaned_weights(view: View) -> tuple[ForgetWeights, ...]:
    """Weights that no LocalModel refers to, where every release is known and no slot can need them."""
    snapshot = view.snapshot
    there = {model.key for model in snapshot.models}
    released = all(snapshot.releases.get(model.uid) for model in snapshot.models)
    if not snapshot.models or not released or not view.all_seen or any(slot.model not in there for slot in view.slots):
        return ()
    return tuple(
        ForgetWeights(node=node, digest=weight.digest)
        for node, part in sorted(snapshot.agents.items())
        if isinstance(part, Known) and node in snapshot.nodes
        for weight in part.value.weights
        if weight.phase is WeightPhase.READY and not view.owners_of(weight.digest)
    )
