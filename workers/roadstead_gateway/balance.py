"""Which address a request goes to: one rule, deterministic, independent of how many slots a model has.

1. The slot is chosen by weight. Strides: each slot has a position, the lowest goes next and moves on by 1/weight. That
   is as smooth as nginx's weighted round robin and costs log(slots) instead of one pass over them.
2. Within the slot, the address with the fewest requests under way that is within capacity and not suspect; among equals
   the one chosen least often.
3. If there is none, the request spills: to the address with the least requests per capacity in any slot, those not
   suspect first. Weights hold while there is room; when a slot is full, an answer is worth more than a share.

Only slots that are Active with a weight above 0 and an address take part; a retry leaves out what was already tried.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Collection, Iterable
from typing import Final

from yarl import URL

from roadstead_gateway.contract import (
    NODE_HEADER,
    RELEASE_HEADER,
    VARIANT_HEADER,
    RouteSlot,
    SlotState,
)
from roadstead_gateway.tallies import AddressLoad, SlotCounters

_ADDRESS: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}")
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")


class Backend:
    """One address of one slot, as the present version of the route describes it."""

    __slots__ = ("_base", "_urls", "address", "capacity", "counters", "headers", "load", "slot")

    def __init__(self, slot: RouteSlot, address: str, counters: SlotCounters) -> None:
        self.slot = slot
        self.address = address
        self.capacity = max(1, slot.capacity)
        self.counters = counters
        self.load: AddressLoad = counters.load(address)
        self.headers: tuple[tuple[bytes, bytes], ...] = (
            (RELEASE_HEADER.encode(), str(slot.release).encode()),
            (VARIANT_HEADER.encode(), _header_value(slot.variant)),
            (NODE_HEADER.encode(), _header_value(slot.node)),
        )
        self._base = f"http://{address}{slot.route_prefix.rstrip('/')}"
        self._urls: dict[str, URL] = {}

    def url(self, path: str) -> URL:
        """Where ``path`` is there. Kept, because parsing an URL costs as much as choosing an address."""
        found = self._urls.get(path)
        if found is None:
            found = self._urls[path] = URL(self._base + path, encoded=True)
        return found


def _header_value(text: str) -> bytes:
    return "".join(letter for letter in text if " " <= letter <= "~").encode()


class Balancer:
    """The choice among the slots of one version of a model's route."""

    def __init__(self, seats: Iterable[tuple[RouteSlot, SlotCounters]], *, before: Balancer | None = None) -> None:
        self._backends: list[tuple[Backend, ...]] = []
        self._strides: list[float] = []
        heap: list[tuple[float, int]] = []
        waits = before.distances() if before else {}
        for slot, counters in seats:
            backends = backends_of(slot, counters) if takes_requests(slot) else ()
            if not backends:
                continue
            number, stride = len(self._backends), 1.0 / slot.weight
            self._backends.append(backends)
            self._strides.append(stride)
            heap.append((min(waits.get(slot.name, stride), stride), number))
        heapq.heapify(heap)
        self._heap = heap

    @property
    def ready(self) -> bool:
        """Whether any address can take a request."""
        return bool(self._heap)

    def distances(self) -> dict[str, float]:
        """How far each slot is from its next turn.

        Carried into the route's next version, so that a slot of little weight gets its turn even if that changes often.
        """
        if not self._heap:
            return {}
        lowest = self._heap[0][0]
        return {self._backends[number][0].slot.name: position - lowest for position, number in self._heap}

    def choose(self, now: float, tried: Collection[str] = ()) -> Backend | None:
        """The address for the next request, none that is in ``tried``; None when nothing is left."""
        heap = self._heap
        if not heap:
            return None
        position, number = heap[0]
        if len(heap) > 1:
            heapq.heapreplace(heap, (position + self._strides[number], number))
        best: Backend | None = None
        least = (0, 0)
        for backend in self._backends[number]:
            load = backend.load
            if load.in_flight >= backend.capacity or load.suspect_until > now or backend.address in tried:
                continue
            rank = (load.in_flight, load.picked)
            if best is None or rank < least:
                best, least = backend, rank
        return best or self._spill(now, tried)

    def _spill(self, now: float, tried: Collection[str]) -> Backend | None:
        left = (backend for backends in self._backends for backend in backends if backend.address not in tried)
        return min(
            left,
            key=lambda backend: (
                backend.load.suspect_until > now,
                backend.load.in_flight / backend.capacity,
                backend.load.picked,
            ),
            default=None,
        )


def takes_requests(slot: RouteSlot) -> bool:
    """Whether new requests may go to this slot at all."""
    return slot.state is SlotState.ACTIVE and slot.weight > 0


def backends_of(slot: RouteSlot, counters: SlotCounters) -> tuple[Backend, ...]:
    """The slot's usable addresses. One that is no ``host:port`` is left out: the replica secret would go to it."""
    if not _PREFIX.fullmatch(slot.route_prefix):
        return ()
    addresses = (address for address in dict.fromkeys(slot.addresses) if _ADDRESS.fullmatch(address))
    return tuple(Backend(slot, address, counters) for address in addresses)
