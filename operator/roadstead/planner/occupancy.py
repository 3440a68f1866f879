"""Who still needs a node's worker or agent: slots, in whatever state, and engines that hold memory.

A worker's Pod may end when it is *vacant*, and that is said only with knowledge: every cell and the node's agent have
to be Known. A lease alone is enough to hold a worker, because an engine may outlive its slot by a long answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from roadstead.domain.snapshot import FleetSnapshot, Known, ObservedSlot, image_label, latest
from roadstead.domain.workload import PodRole

_ANYWHERE = ""
"""Where a slot may be of which only the name is left: the end of its node's name may be cut off."""


class Occupancy:
    """What is on which node, by what was last told."""

    def __init__(self, snapshot: FleetSnapshot) -> None:
        told = [facts for cell in snapshot.cells if (facts := latest(cell.facts)) is not None]
        self._slots = {slot.name: slot for facts in told for slot in facts.slots}
        self._at: defaultdict[str, list[ObservedSlot]] = defaultdict(list)
        for slot in self._slots.values():
            self._at[slot.node if slot.content else _ANYWHERE].append(slot)
        self._agents = snapshot.agents
        self._manned = frozenset(pod.node for pod in snapshot.pods if pod.role is PodRole.WORKER)
        self.cells_known = all(isinstance(cell.facts, Known) for cell in snapshot.cells)
        """Whether no slot can have escaped notice."""

    def holders(self, node: str, image: str | None = None) -> tuple[str, ...]:
        """Names of the slots that need the node (and there a worker of this :func:`image_label`)."""
        names = {slot.name for slot in (*self._at[node], *self._at[_ANYWHERE]) if _by(slot, image)}
        names.update(
            lease for lease in self._leases(node) if (slot := self._slots.get(lease)) is None or _by(slot, image)
        )
        return tuple(sorted(names))

    def vacant(self, node: str, image: str) -> bool:
        """Whether it is sure that nothing needs this node's worker of an image."""
        known = self.cells_known and isinstance(self._agents.get(node), Known)
        return known and not self.holders(node, image)

    def deserted(self, node: str) -> bool:
        """Whether it is sure that nothing needs the node: where no worker is left, nobody can hold a lease."""
        known = self.cells_known and (isinstance(self._agents.get(node), Known) or node not in self._manned)
        return known and not self.holders(node)

    def _leases(self, node: str) -> Iterable[str]:
        part = self._agents.get(node)
        facts = latest(part) if part is not None else None
        return (lease.slot for lease in facts.leases) if facts is not None and node in self._manned else ()


def _by(slot: ObservedSlot, image: str | None) -> bool:
    """A slot whose image is not known any more may be of any."""
    return image is None or image_label(slot.engine_image) in (image, "")
