"""What the gateway counts, per slot: plain numbers raised on the way of a request, read by the operator and Prometheus.

Counting is by *attempt*: a request that was refused by one replica and answered by another is a failed attempt of the
first slot and a good one of the second, so a slot's errors never exceed its requests. All of it belongs to the one
event loop; nothing here is locked. Numbers live as long as their slot is in a route or a request of it is under way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from roadstead_gateway.contract import SlotTally

FIRST_TOKEN_BUCKETS_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class AddressLoad:
    """How busy one address of a slot is; outlives a route's versions so that no request under way is forgotten."""

    __slots__ = ("in_flight", "picked", "suspect_until")

    def __init__(self) -> None:
        self.in_flight = 0
        self.picked = 0
        self.suspect_until = 0.0
        """Until this time of the loop the address is chosen last: it refused or was not ready."""


class SlotCounters:
    """Counters of one slot since the gateway started."""

    __slots__ = (
        "codes",
        "errors",
        "first_token_buckets",
        "first_token_seconds",
        "first_tokens",
        "in_flight",
        "loads",
        "model",
        "node",
        "requests",
        "slot",
        "tokens",
        "variant",
    )

    def __init__(self, slot: str, model: str, variant: str, node: str) -> None:
        self.slot, self.model, self.variant, self.node = slot, model, variant, node
        self.in_flight = 0
        self.requests = 0
        self.errors = 0
        self.tokens = 0
        self.first_token_seconds = 0.0
        self.first_tokens = 0
        self.first_token_buckets = [0] * (len(FIRST_TOKEN_BUCKETS_SECONDS) + 1)
        self.codes: dict[str, int] = {}
        """Attempts ended, by status or by how they failed (``connect``, ``cut``, ``timeout``, ``broken``, ``gone``)."""
        self.loads: dict[str, AddressLoad] = {}

    def load(self, address: str) -> AddressLoad:
        found = self.loads.get(address)
        if found is None:
            found = self.loads[address] = AddressLoad()
        return found

    def begin(self, load: AddressLoad) -> None:
        """An attempt starts; each ``begin`` has exactly one ``end``."""
        self.requests += 1
        self.in_flight += 1
        load.in_flight += 1
        load.picked += 1

    def end(self, load: AddressLoad, code: str, *, error: bool = False) -> None:
        self.in_flight -= 1
        load.in_flight -= 1
        self.codes[code] = self.codes.get(code, 0) + 1
        if error:
            self.errors += 1

    def saw_first_token(self, seconds: float) -> None:
        self.first_token_seconds += seconds
        self.first_tokens += 1
        self.first_token_buckets[bisect_left(FIRST_TOKEN_BUCKETS_SECONDS, seconds)] += 1

    def forget_idle(self, addresses: Iterable[str]) -> None:
        """Drop the load of addresses that are neither listed nor busy."""
        kept = frozenset(addresses)
        for address in [a for a, load in self.loads.items() if a not in kept and not load.in_flight]:
            del self.loads[address]

    def tally(self) -> SlotTally:
        return SlotTally(
            slot=self.slot,
            in_flight=self.in_flight,
            requests=self.requests,
            errors=self.errors,
            tokens=self.tokens,
            first_token_seconds=self.first_token_seconds,
            first_tokens=self.first_tokens,
        )


class CounterBook:
    """The counters of all slots, and of what was refused before a slot was chosen."""

    def __init__(self) -> None:
        self._slots: dict[str, SlotCounters] = {}
        self._unlisted: set[str] = set()
        self.refusals: dict[str, int] = {}
        """By the refusal's code; the codes are the gateway's own, so they are few."""

    def of(self, slot: str, *, model: str, variant: str, node: str) -> SlotCounters:
        """The counters of a listed slot, kept if it was there before."""
        self._unlisted.discard(slot)
        found = self._slots.get(slot)
        if found is None:
            found = self._slots[slot] = SlotCounters(slot, model, variant, node)
        return found

    def unlist(self, slots: Iterable[str]) -> None:
        """No route lists these slots any more: forget each as soon as nothing of it is under way."""
        self._unlisted.update(slots)

    def refuse(self, code: str) -> None:
        self.refusals[code] = self.refusals.get(code, 0) + 1

    def slots(self) -> tuple[SlotCounters, ...]:
        """All slots that are listed or busy, by name."""
        for slot in [s for s in self._unlisted if not self._slots[s].in_flight]:
            self._unlisted.discard(slot)
            del self._slots[slot]
        return tuple(self._slots[slot] for slot in sorted(self._slots))
