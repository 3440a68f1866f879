"""Room that a model of higher priority takes from those of lower, where its replicas would find none otherwise.

A claim is the place of one replica on a node where others still hold the room. Until they have left, the room is
promised to nobody else. It goes in three steps, each of which follows from what is there, so nothing is remembered:

* The claimant's weights are fetched to the node. Until they are there, nobody is asked to leave.
* Then the replicas give way as those of a node do that has shrunk: they move if they find another place, else they
  drain at once.
* While their engines end, what these hold is counted on, and nothing more is claimed for it.

Between equals nothing is taken away, nor for a better variant: only for a replica that would not be served at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from roadstead.domain.model import Model
from roadstead.domain.snapshot import ObservedSlot
from roadstead.planner.crowding import yielding
from roadstead.planner.needs import Need, Take, takes_of
from roadstead.planner.nodes import Seat
from roadstead.planner.rooms import Room, Rooms
from roadstead.planner.view import View, configured


@dataclass(frozen=True, slots=True, kw_only=True)
class Sacrifice:
    """What has to leave a node, so that there is room for one replica there."""

    replicas: Mapping[str, int]
    """By slot."""
    priority: int
    """The highest of those models'."""

    @property
    def cost(self) -> tuple[bool, int, int]:
        """Less is better: nothing, then what is of low priority, then few."""
        return (bool(self.replicas), self.priority, sum(self.replicas.values()))


class Claims:
    """The claims of one plan, made by the models in the order of their rank."""

    def __init__(self, view: View, seats: Mapping[str, Seat]) -> None:
        self._view = view
        self._seats = seats
        self._lowest = min((model.priority for model in view.snapshot.models), default=0)
        self._models = {each.key: each for each in view.snapshot.models if each.spec is not None and not each.deleting}
        self._deleting = {model.key for model in view.snapshot.models if model.deleting}
        self._claimed: Counter[str] = Counter()
        """Replicas by slot that have to leave, now or once a claimant's weights are there."""
        self.giving_way: dict[str, int] = {}
        """Replicas by slot that leave now."""
        self.claimants: dict[str, str] = {}
        """For whom a slot gives way, in words."""

    def may_claim(self, model: Model) -> bool:
        """Whether there are models that it could take room from."""
        return self._lowest < model.priority

    def nodes(self) -> Iterable[str]:
        """Those on which room could become free."""
        return (name for name, seat in self._seats.items() if seat.facts is not None and self._view.slots_on(name))

    def room(self, node: str, model: Model, rooms: Rooms) -> Room:
        """What there would be for the model, if everybody left who has to give way to it."""
        return self._coming(node, model, rooms).plus(each.take for each in self._lower(node, model))

    def sacrifice(self, node: str, model: Model, need: Need, rooms: Rooms) -> Sacrifice:
        """The fewest of those replicas without which there is room for one that needs so much."""
        room = self._coming(node, model, rooms)
        left: list[_Replica] = []
        spoken_for = Counter(self._claimed)
        for each in self._lower(node, model):
            if spoken_for[each.slot.name] > 0:
                spoken_for[each.slot.name] -= 1
                room = room.plus([each.take])
            else:
                left.append(each)
        chosen: list[_Replica] = []
        for each in left:
            if room.spot(need) is not None:
                break
            chosen.append(each)
            room = room.plus([each.take])
        for each in list(chosen):  # what turned out not to be needed, because a later one is large
            if room.less([each.take]).spot(need) is not None:
                chosen.remove(each)
                room = room.less([each.take])
        return Sacrifice(
            replicas=Counter(each.slot.name for each in chosen),
            priority=max((self._models[each.slot.model].priority for each in chosen), default=0),
        )

    def claim(self, model: Model, sacrifice: Sacrifice, *, at_once: bool) -> None:
        """Have them leave; ``at_once`` if the claimant waits for nothing else."""
        self._claimed.update(sacrifice.replicas)
        for slot in sacrifice.replicas if at_once else ():
            self.giving_way[slot] = self._claimed[slot]
            self.claimants[slot] = f"{model.key}, whose priority is {model.priority}"

    def _coming(self, node: str, model: Model, rooms: Rooms) -> Room:
        """What is free there once everything has ended that is ending anyway; the model's own is counted already."""
        slots = self._view.slots_on(node)
        facts = self._seats[node].facts
        staying = {slot.name for slot in slots if slot.configured or slot.model == model.key}
        ending = [lease for lease in (facts.leases if facts is not None else ()) if lease.slot not in staying]
        going = (slot for slot in configured(slots) if slot.model in self._deleting)
        return rooms.once_free(node, ending).plus(take for slot in going for take in takes_of(slot))

    def _lower(self, node: str, model: Model) -> list[_Replica]:
        """Each replica of lower models on a node, in the order in which they give way."""
        known = (slot for slot in configured(self._view.slots_on(node)) if slot.model in self._models)
        lower = (slot for slot in known if self._models[slot.model].priority < model.priority)
        return [
            _Replica(slot, take)
            for slot in dict.fromkeys(yielding(lower, self._view))
            for take in reversed(tuple(takes_of(slot)))
        ]


class _Replica(NamedTuple):
    """One that could give way."""

    slot: ObservedSlot
    take: Take
