"""Nodes that have been promised out of more memory than they still have, because their budget was lowered.

What runs there goes on: a budget is a plan, and engines are not ended for it. But some of it has to find another place,
or a smaller variant on the same node. The youngest models give way first, and of two that could, the one that serves
elsewhere as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from roadstead.domain.model import ModelKey
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
            found += _giving_way(slots, short, view)
    return found


def promised(slots: tuple[ObservedSlot, ...]) -> int:
    """Bytes of all their replicas."""
    return sum(slot.memory_bytes * slot.replicas for slot in slots)


def _giving_way(slots: tuple[ObservedSlot, ...], short: int, view: View) -> Counter[str]:
    """The fewest replicas in that order."""
    age = {model.key: model.precedence for model in view.snapshot.models}
    replicas = [slot for slot in sorted(slots, key=lambda slot: slot.name) for _ in range(slot.replicas)]
    known = [slot for slot in replicas if slot.model in age]
    known.sort(key=lambda slot: age[slot.model], reverse=True)
    known.sort(key=lambda slot: not _serves_elsewhere(slot.model, slot.node, view))
    taken: list[ObservedSlot] = []
    for slot in known:
        if short <= 0:
            break
        taken.append(slot)
        short -= slot.memory_bytes
    for slot in list(taken):  # what turned out not to be needed, because a later one is large
        if short + slot.memory_bytes <= 0:
            taken.remove(slot)
            short += slot.memory_bytes
    return Counter(slot.name for slot in taken)


def _serves_elsewhere(model: ModelKey, node: str, view: View) -> bool:
    return any(slot.node != node and slot.ready for slot in view.slots_of(model))
