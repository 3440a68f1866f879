"""How much memory is free on each node beside everything that is there or has been promised in this plan.

Agents measure, so foreign processes are already out of the figure. A slot's replicas count with what they were promised
until their leases say more; a lease whose slot has left the configuration counts until the engine is really gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self

from roadstead.domain.snapshot import AgentFacts, FleetSnapshot, ObservedSlot, latest
from roadstead.planner.nodes import Seat


class Rooms:
    """Free bytes by node; a plan takes from it as it promises."""

    def __init__(self, free: Mapping[str, int]) -> None:
        self._free = dict(free)

    @classmethod
    def observed(cls, snapshot: FleetSnapshot, seats: Mapping[str, Seat]) -> Self:
        """What the agents that are Known report, less what running slots have not yet used."""
        slots = tuple(slot for cell in snapshot.cells if (told := latest(cell.facts)) for slot in told.slots)
        return cls(
            {
                name: facts.free_bytes - _unused_promises(facts, [slot for slot in slots if slot.node == name])
                for name, seat in seats.items()
                if (facts := seat.facts) is not None
            }
        )

    def free(self, node: str) -> int:
        """Bytes; 0 on a node whose agent is not Known."""
        return max(0, self._free.get(node, 0))

    def take(self, node: str, number_of_bytes: int) -> None:
        """Promise memory on a node."""
        self._free[node] = self._free.get(node, 0) - number_of_bytes

    def after_leaving(self, slots: Iterable[ObservedSlot]) -> Rooms:
        """The rooms as they will be once these slots are gone."""
        freed: Counter[str] = Counter()
        for slot in slots:
            freed[slot.node] += slot.memory_bytes * slot.replicas
        return Rooms({node: free + freed[node] for node, free in self._free.items()})


def _unused_promises(facts: AgentFacts, slots: list[ObservedSlot]) -> int:
    leased: Counter[str] = Counter(lease.slot for lease in facts.leases)
    return sum(slot.memory_bytes * max(0, slot.replicas - leased[slot.name]) for slot in slots if slot.configured)
