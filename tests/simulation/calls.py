"""Every mutating call that reaches a simulated door, in order, and where a test may cut in.

A hook decides for each call: nothing, cut before (it is not carried out), cut after (it is carried out and never
answered) or late. Whoever is to die or to be held still at this point is so by the hook's owner in ``cut``, while the
call is held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

KEPT_CALLS: Final = 100_000


class Cut(StrEnum):
    """On which side of a call its caller dies; or the call is late, and goes on as if nothing had been."""

    BEFORE = "before"
    AFTER = "after"
    LATE = "late"


DEATHS: Final = (Cut.BEFORE, Cut.AFTER)
"""The two by which a caller dies."""


@dataclass(frozen=True, slots=True)
class DoorCall:
    """One mutating call."""

    door: str
    """``agent node-0001`` or ``cell cell-0``."""
    method: str
    path: str
    """Without the prefix of the door: ``/config``, ``/weights/sha256:…``."""
    epoch: str = ""
    """Of its caller, as it was written in the header."""

    def __str__(self) -> str:
        return f"{self.door} {self.method} {self.path}"


async def _nobody() -> None:
    """Nobody is to die."""


@dataclass(slots=True)
class Calls:
    """The calls of one simulation."""

    on_mutation: Callable[[DoorCall], Cut | None] = lambda _call: None
    cut: Callable[[], Awaitable[None]] = _nobody
    """Ends the caller; the call goes on, or is dropped, when it is done."""
    number: int = 0
    seen: deque[DoorCall] = field(default_factory=lambda: deque(maxlen=KEPT_CALLS))
    admitted: deque[DoorCall] = field(default_factory=lambda: deque(maxlen=KEPT_CALLS))
    """Those whose epoch was not too old, in the order in which they were carried out."""
    stale: deque[DoorCall] = field(default_factory=lambda: deque(maxlen=KEPT_CALLS))
    """Those whose epoch was."""

    def note(self, call: DoorCall) -> Cut | None:
        """Where this call is cut, if it is."""
        self.number += 1
        self.seen.append(call)
        return self.on_mutation(call)
