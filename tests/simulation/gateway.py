"""One simulated gateway: the real table and watch of routes, without requests."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from roadstead_gateway.contract import SlotTally, Tallies
from roadstead_gateway.routes import RouteTable
from roadstead_gateway.tallies import CounterBook
from roadstead_gateway.watch import RouteWatch
from tests.simulation.line import Line


@dataclass(slots=True, kw_only=True)
class SimulatedGateway:
    """Works by the ModelRoutes of an API server, if it is given one."""

    name: str
    table: RouteTable = field(default_factory=lambda: RouteTable(CounterBook()))
    watch: RouteWatch | None = None
    in_flight: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Requests under way by slot."""
    line: Line = field(default_factory=Line)
    answer: tuple[object, bytes] | None = None
    """The last answer and what it was made from: two thousand routes are asked for every two seconds."""

    def tallies(self) -> bytes:
        """The answer to the operator."""
        synced = self.watch is not None and self.watch.synced
        basis = (self.table.version, synced, tuple(sorted(self.in_flight.items())))
        if self.answer is None or self.answer[0] != basis:
            told = Tallies(
                gateway=self.name,
                synced=synced,
                routes=self.table.seen(),
                slots=tuple(
                    SlotTally(
                        slot=slot,
                        in_flight=self.in_flight.get(slot, 0),
                        requests=0,
                        errors=0,
                        tokens=0,
                        first_token_seconds=0.0,
                        first_tokens=0,
                    )
                    for slot in sorted({name for entry in self.table.entries() for name in entry.counters})
                ),
            )
            self.answer = (basis, told.model_dump_json(by_alias=True).encode())
        return self.answer[1]
