"""Nodes in the order in which a model looks at them, so that it need not look at all of them.

A ranking is of one placement policy: only nodes on which something may be started now, those with accelerators first,
and of these the one with the most free memory. It follows what the plan promises meanwhile, because free memory can
only fall while a plan is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from heapq import heapify, heappop, heappush, heapreplace

from roadstead.domain.model import ModelSpec, PlacementPolicy
from roadstead.planner.nodes import Seat, start_verdict
from roadstead.planner.rooms import Rooms


class Ranking:
    """The nodes of one policy."""

    def __init__(self, nodes: list[str], rooms: Rooms, *, largest: int) -> None:
        self.largest = largest
        """Bytes of the largest budget among them."""
        self._rooms = rooms
        self._heap = [(*_order(rooms.rank(node)), node) for node in nodes]
        heapify(self._heap)

    @contextmanager
    def walk(self) -> Iterator[Iterator[str]]:
        """The nodes in order, each as it then ranks. One walk ends before the next begins."""
        passed: list[tuple[int, int, str]] = []
        yield self._popped(passed)
        for entry in passed:
            heappush(self._heap, entry)

    def _popped(self, passed: list[tuple[int, int, str]]) -> Iterator[str]:
        while self._heap:
            *noted, node = self._heap[0]
            now = _order(self._rooms.rank(node))
            if tuple(noted) != now:  # some of it was promised since
                heapreplace(self._heap, (*now, node))
                continue
            passed.append(heappop(self._heap))
            yield node


class Rankings:
    """One ranking for every policy that is asked for, over the rooms that the plan takes from."""

    def __init__(self, seats: Mapping[str, Seat], rooms: Rooms) -> None:
        self._seats = seats
        self._rooms = rooms
        self._by_policy: dict[PlacementPolicy, Ranking] = {}
        self.isas = frozenset(seat.facts.isa for seat in seats.values() if seat.facts is not None)
        """The instruction sets of all nodes whose agents are Known."""

    def of(self, spec: ModelSpec) -> Ranking:
        """That of a model's policy."""
        ranking = self._by_policy.get(spec.placement)
        if ranking is None:
            open_to_it = {name: seat for name, seat in self._seats.items() if start_verdict(seat, spec) is None}
            budgets = (seat.facts.budget_bytes for seat in open_to_it.values() if seat.facts is not None)
            ranking = Ranking(list(open_to_it), self._rooms, largest=max(budgets, default=0))
            self._by_policy[spec.placement] = ranking
        return ranking


def _order(rank: tuple[int, int]) -> tuple[int, int]:
    """What ranks higher comes first."""
    return (-rank[0], -rank[1])
