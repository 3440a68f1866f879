"""How evenly the replicas of a model are spread over zones, racks or nodes: where one more of them may go.

A domain is a value of the label that ``spec.placement.spread`` names, among the nodes that policy lets the model onto.
In what state these are makes no difference, as with the scheduler's topology spread constraints: a zone that is down is
a domain without replicas, so that the others do not take up all of them. A replica counts where it is placed, also
while its weights are on their way. What leaves counts nowhere. Only what starts is held to it; what stands stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heapreplace
from zlib import crc32

from roadstead.domain.model import ModelSpec, PlacementPolicy, Spread
from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.planner.nodes import Seat, selection_verdict

HOSTNAME = "kubernetes.io/hostname"
"""The label whose domains are nodes."""

Places = Iterable[tuple[str, int]]
"""Nodes and replicas on them; a node may come several times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Domains:
    """What a model's replicas are spread over."""

    spread: Spread
    by_node: Mapping[str, str]
    """The domain of each node that has one and that policy lets the model onto."""
    names: frozenset[str]

    def counts(self, places: Places) -> Counter[str]:
        """Replicas by domain, those without any left out."""
        counts: Counter[str] = Counter()
        for node, replicas in places:
            if node in self.by_node:
                counts[self.by_node[node]] += replicas
        return +counts

    def allow(self, node: str, places: Places) -> bool:
        """Whether one more replica may go to this node."""
        return node in self.by_node and self._ahead(node, self.counts(places)) <= self.spread.max_skew

    def exceeded(self, places: Places) -> int:
        """By how many replicas the fullest domain is further ahead than it may be."""
        counts = self.counts(places)
        return max(0, max(counts.values(), default=0) - self._fewest(counts) - self.spread.max_skew)

    def _ahead(self, node: str, counts: Counter[str]) -> int:
        """By how many the domain of a node would be ahead of the one with the fewest, with one more."""
        return counts[self.by_node[node]] + 1 - self._fewest(counts)

    def _fewest(self, counts: Counter[str]) -> int:
        return min(counts.values()) if len(counts) == len(self.names) else 0

    def turns(self, replicas: int, places: Places, *, seed: str) -> Iterator[tuple[int, str]]:
        """A way to deal so many further replicas that is allowed at every step: always where there are fewest.

        Of each how many its domain has already, and the domain. Where domains are equal the ``seed`` decides, so that
        not all models begin with the same one.
        """
        counts = self.counts(places)
        heap = [(counts[name], crc32(f"{seed}/{name}".encode()), name) for name in self.names]
        heapify(heap)
        for _ in range(replicas if heap else 0):
            count, order, name = heap[0]
            heapreplace(heap, (count + 1, order, name))
            yield count, name

    def verdict(self, node: str, places: Places) -> Verdict | None:
        """The same in words, for a node that policy lets the model onto; None if one more may go there."""
        key, limit = self.spread.topology_key, self.spread.max_skew
        if node not in self.by_node:
            words = f"lacks the label {key}, which spec.placement.spread counts by"
            return Verdict(reason=Reason.NODE_NOT_SELECTED, message=words)
        counts, domain = self.counts(places), self.by_node[node]
        ahead = self._ahead(node, counts)
        if ahead <= limit:
            return None
        emptiest = min(self.names, key=lambda name: (counts[name], name))
        there = "has" if key == HOSTNAME else f"is in {domain}, which has"
        return Verdict(
            reason=Reason.ANTI_AFFINITY if key == HOSTNAME else Reason.SKEW_EXCEEDED,
            message=f"{there} {_replicas(counts[domain])} while {emptiest} has {counts[emptiest]}: "
            f"one more would be {ahead} ahead, spec.placement.spread.maxSkew is {limit}",
        )


class Topology:
    """Domains by placement policy: each policy looks at all nodes once a plan."""

    def __init__(self, seats: Mapping[str, Seat]) -> None:
        self._seats = seats
        self._by_policy: dict[PlacementPolicy, Domains] = {}

    def of(self, spec: ModelSpec) -> Domains | None:
        """Those of a model; None if its policy does not spread it."""
        if spec.placement.spread is None:
            return None
        found = self._by_policy.get(spec.placement)
        if found is None:
            found = self._by_policy[spec.placement] = self._domains(spec, spec.placement.spread)
        return found

    def _domains(self, spec: ModelSpec, spread: Spread) -> Domains:
        labels = (
            (name, dict(seat.node.labels).get(spread.topology_key))
            for name, seat in self._seats.items()
            if selection_verdict(seat, spec) is None
        )
        by_node = {name: value for name, value in labels if value is not None}
        return Domains(spread=spread, by_node=by_node, names=frozenset(by_node.values()))


def _replicas(count: int) -> str:
    return f"{count} replica" if count == 1 else f"{count} replicas"
