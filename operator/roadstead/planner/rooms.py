"""How much memory is free on each node beside everything that is there or has been promised in this plan.

Agents measure, so foreign processes are already out of the figure. A slot's replicas count with what they were promised
until their leases say more; a lease whose slot has left the configuration counts until the engine is really gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self

from roadstead.domain.snapshot import AgentFacts, ObservedSlot
from roadstead.planner.crowding import promised
from roadstead.planner.nodes import Seat
from roadstead.planner.view import View, configured


class Rooms:
    """Free bytes by node; a plan takes from it as it promises."""

    def __init__(self, free: Mapping[str, int], budgets: Mapping[str, int] | None = None) -> None:
        self._free = dict(free)
        self._left = dict(budgets if budgets is not None else free)
        """Of the budget what nothing that is configured was promised: never less than what is free."""

    @classmethod
    def observed(cls, view: View, seats: Mapping[str, Seat]) -> Self:
        """What the agents that are Known report, less what running slots have not yet used."""
        known = {name: seat.facts for name, seat in seats.items() if seat.facts is not None}
        return cls(
            {name: _free(facts, view.slots_on(name)) for name, facts in known.items()},
            {name: _left(facts, view.slots_on(name)) for name, facts in known.items()},
        )

    def free(self, node: str) -> int:
        """Bytes; 0 on a node whose agent is not Known."""
        return max(0, self._free.get(node, 0))

    def take(self, node: str, number_of_bytes: int) -> None:
        """Promise memory on a node."""
        self._free[node] = self._free.get(node, 0) - number_of_bytes
        self._left[node] = self._left.get(node, 0) - number_of_bytes

    def once_free(self, node: str, number_of_bytes: int) -> int:
        """What is free once so many bytes have been given back, which nothing that is configured was promised.

        Below 0 where more was promised in this plan than there is.
        """
        free = self._free.get(node, 0)
        return min(free + number_of_bytes, max(free, self._left.get(node, 0)))

    def count_on(self, node: str, number_of_bytes: int) -> None:
        """Memory that something which is ending still holds will be free, as far as the node's budget goes."""
        if node in self._free:
            self._free[node] = self.once_free(node, number_of_bytes)

    def after_leaving(self, slots: Iterable[ObservedSlot]) -> Rooms:
        """The rooms as they will be once these slots are gone."""
        rooms = Rooms(self._free, self._left)
        for slot in slots:
            if slot.node in self._free:
                rooms.take(slot.node, -slot.memory_bytes * slot.replicas)
        return rooms


def _free(facts: AgentFacts, slots: tuple[ObservedSlot, ...]) -> int:
    """Below zero where more was promised than there is now: what leaves makes good for that first."""
    return min(facts.free_bytes - _unused_promises(facts, slots), _left(facts, slots))


def _left(facts: AgentFacts, slots: tuple[ObservedSlot, ...]) -> int:
    return facts.budget_bytes - promised(configured(slots))


def _unused_promises(facts: AgentFacts, slots: tuple[ObservedSlot, ...]) -> int:
    leased: Counter[str] = Counter(lease.slot for lease in facts.leases)
    return sum(slot.memory_bytes * max(0, slot.replicas - leased[slot.name]) for slot in slots if slot.configured)
