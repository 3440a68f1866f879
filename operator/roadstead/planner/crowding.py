"""Nodes that have been promised out of more memory than they still have, because their budget was lowered.

What runs there goes on: a budget is a plan, and engines are not ended for it. But some of it has to find another place,
or a smaller variant on the same node. Who gives way first is the same wherever room is taken from somebody: models of
lower priority, then those that serve elsewhere as well, then the younger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from roadstead.domain.snapshot import ObservedSlot
from roadstead.planner.nodes import Seat
from roadstead.planner.view import View, configured


def too_many(view: View, seats: Mapping[str, Seat]) -> Mapping[str, int]:
    """By slot, how many of its replicas the node has no memory for any more."""
    found: Counter[str] = Counter()
    for name, seat in seats.items():
        facts = seat.facts
        slots = configured(view.slots_on(name))
        short = promised(slots) - facts.budget_bytes if facts is not None else 0
        if short > 0:
            found += Counter(slot.name for slot in fewest(yielding(slots, view), short))
    return found


def promised(slots: tuple[ObservedSlot, ...]) -> int:
    """Bytes of all their replicas."""
    return sum(slot.memory_bytes * slot.replicas for slot in slots)


def yielding(slots: Iterable[ObservedSlot], view: View) -> list[ObservedSlot]:
    """Each replica's slot, in the order in which they give way; none of models that nobody knows."""
    known = [slot for slot in sorted(slots, key=lambda slot: slot.name) if slot.model in view.models]
    known.sort(key=lambda slot: view.models[slot.model].precedence, reverse=True)
    known.sort(key=lambda slot: (view.models[slot.model].priority, not _serves_elsewhere(slot, view)))
    return [slot for slot in known for _ in range(slot.replicas)]


def fewest(slots: list[ObservedSlot], short: int) -> list[ObservedSlot]:
    """The first of these that together hold ``short`` bytes, without those that turned out not to be needed."""
    taken: list[ObservedSlot] = []
    for slot in slots:
        if short <= 0:
            break
        taken.append(slot)
        short -= slot.memory_bytes
    for slot in list(taken):  # because a later one is large
        if short + slot.memory_bytes <= 0:
            taken.remove(slot)
            short += slot.memory_bytes
    return taken


def _serves_elsewhere(slot: ObservedSlot, view: View) -> bool:
    return any(other.node != slot.node and other.ready for other in view.slots_of(slot.model))
