"""The mutating calls of one run in one order, whatever they go to, and the one at which the operator dies."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulation.calls import Cut, DoorCall


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """Just before or just after the call of that number, counted from 1."""

    number: int
    side: Cut

    def __str__(self) -> str:
        return f"{self.number}:{self.side.value}"

    @classmethod
    def parse(cls, text: str) -> Point:
        """``17:before``. Raises ``ValueError``."""
        number, _, side = text.strip().partition(":")
        return cls(int(number), Cut(side))


@dataclass(slots=True)
class Journal:
    """Hand its methods to the proxies and to the doors."""

    point: Point | None = None
    calls: list[str] = field(default_factory=list)

    @property
    def died_at(self) -> str:
        """The call at which the operator died; empty if the point was not reached."""
        reached = self.point is not None and len(self.calls) >= self.point.number
        return self.calls[self.point.number - 1] if self.point is not None and reached else ""

    def of_kubernetes(self, _number: int, call: object) -> Cut | None:
        """For the proxy before the API server."""
        return self._note(f"Kubernetes: {call}")

    def of_postgres(self, _number: int) -> Cut | None:
        """For the proxy before Postgres."""
        return self._note("Postgres: COMMIT")

    def of_doors(self, call: DoorCall) -> Cut | None:
        """For the simulated doors."""
        return self._note(f"door: {call}")

    def _note(self, call: str) -> Cut | None:
        self.calls.append(call)
        if self.point is None or len(self.calls) != self.point.number:
            return None
        return self.point.side
