"""How much memory is free on each node beside everything that is there or has been promised in this plan.

Agents measure, so foreign processes are already out of the figure. A slot's replicas count with what they were promised
until their leases say more; a lease whose slot has left the configuration counts until the engine is really gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from roadstead.domain.snapshot import AgentFacts, Lease, ObservedSlot
from roadstead.planner.crowding import promised
from roadstead.planner.needs import Need, Take, takes_of
from roadstead.planner.nodes import Seat
from roadstead.planner.view import View, configured


@dataclass(frozen=True, slots=True)
class Room:
    """What is free on one node."""

    host: int
    """Bytes; below 0 where more was promised than there is."""
    devices: tuple[tuple[str, int], ...] = ()
    """Id of each accelerator and the bytes that are free on it."""

    def spot(self, need: Need) -> Take | None:
        """Room for one replica, on the fullest of the accelerators that have it."""
        if need.host > self.host:
            return None
        able = [(free, name) for name, free in self.devices if free >= need.each and need.may_use(name)]
        if len(able) < need.devices:
            return None
        return Take(need.host, need.each, tuple(sorted(name for _, name in sorted(able)[: need.devices])))

    @property
    def emptiest(self) -> int:
        """Bytes that are free on the emptiest accelerator; 0 where there is none."""
        return max((free for _, free in self.devices), default=0)

    def plus(self, takes: Iterable[Take], sign: int = 1) -> Room:
        """The room as it is once these have been given back."""
        host, devices = self.host, dict(self.devices)
        for take in takes:
            host += sign * take.host
            for name in take.devices:
                if name in devices:
                    devices[name] += sign * take.each
        return Room(host, tuple(devices.items()))

    def less(self, takes: Iterable[Take]) -> Room:
        """The room as it is with these in it as well."""
        return self.plus(takes, -1)


_NOTHING = Room(0)


class Rooms:
    """What is free by node; a plan takes from it as it promises."""

    def __init__(self, rooms: Mapping[str, Room], budgets: Mapping[str, int] | None = None) -> None:
        self._rooms = dict(rooms)
        self._left = dict(budgets) if budgets is not None else {name: room.host for name, room in rooms.items()}
        """Of the budget what nothing that is configured was promised: never less than what is free of the host."""

    @classmethod
    def observed(cls, view: View, seats: Mapping[str, Seat]) -> Self:
        """What the agents that are Known report, less what running slots have not yet used."""
        known = {name: seat.facts for name, seat in seats.items() if seat.facts is not None}
        return cls(
            {name: _room(facts, view.slots_on(name)) for name, facts in known.items()},
            {name: _left(facts, view.slots_on(name)) for name, facts in known.items()},
        )

    def free(self, node: str) -> int:
        """Bytes of the host; 0 on a node whose agent is not Known."""
        return max(0, self.room(node).host)

    def room(self, node: str) -> Room:
        """All that is free there; nothing on a node whose agent is not Known."""
        return self._rooms.get(node, _NOTHING)

    def rank(self, node: str) -> tuple[int, int]:
        """The more the better: what is free on the emptiest accelerator, then of the host."""
        room = self.room(node)
        return (room.emptiest, max(0, room.host))

    def take(self, node: str, *takes: Take) -> None:
        """Promise memory on a node."""
        self._rooms[node] = self.room(node).less(takes)
        self._left[node] = self._left.get(node, 0) - sum(take.host for take in takes)

    def give_back(self, node: str, takes: Iterable[Take]) -> None:
        """What was promised there is not any more."""
        given = tuple(takes)
        self._rooms[node] = self.room(node).plus(given)
        self._left[node] = self._left.get(node, 0) + sum(take.host for take in given)

    def once_free(self, node: str, ending: Iterable[Lease]) -> Room:
        """What is free once these have ended, which nothing that is configured was promised."""
        room = self.room(node).plus(Take(lease.bytes, lease.device_bytes, lease.devices) for lease in ending)
        free = self.room(node).host
        return Room(min(room.host, max(free, self._left.get(node, 0))), room.devices)

    def count_on(self, node: str, ending: Iterable[Lease]) -> None:
        """Memory that something which is ending still holds will be free, as far as the node's budget goes."""
        if node in self._rooms:
            self._rooms[node] = self.once_free(node, ending)

    def after_leaving(self, slots: Iterable[ObservedSlot]) -> Rooms:
        """The rooms as they will be once these slots are gone."""
        rooms = Rooms(self._rooms, self._left)
        for slot in slots:
            if slot.node in self._rooms:
                rooms.give_back(slot.node, takes_of(slot))
        return rooms


def _room(facts: AgentFacts, slots: tuple[ObservedSlot, ...]) -> Room:
    """Below zero where more was promised than there is now: what leaves makes good for that first."""
    unused = [take for slot in slots if slot.configured for take in _unused(slot, facts.leases)]
    reported = tuple(
        (each.id, each.memory_bytes if each.free_bytes is None else each.free_bytes) for each in facts.devices
    )
    room = Room(facts.free_bytes, reported).less(unused)
    return Room(min(room.host, _left(facts, slots)), room.devices)


def _unused(slot: ObservedSlot, leases: Iterable[Lease]) -> list[Take]:
    """Of what its replicas were promised what no lease stands for yet."""
    held = {lease.index for lease in leases if lease.slot == slot.name}
    if slot.devices:
        return [take for index, take in enumerate(takes_of(slot)) if index not in held]
    return list(takes_of(slot, max(0, slot.replicas - len(held))))


def _left(facts: AgentFacts, slots: tuple[ObservedSlot, ...]) -> int:
    return facts.budget_bytes - promised(configured(slots))
