"""Many waits of one length for the price of one timer.

Every request has a few deadlines that hardly ever come. A timer of the event loop for each is made and thrown away a
few microseconds later, and together they were a tenth of a request's cost. As all waits here are equally long, they
come due in the order in which they began: a queue with one timer for its head does the same.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Waiting(Protocol):
    """Something that waits; told by ``overdue`` when it has waited too long."""

    def overdue(self) -> None: ...


class Deadlines:
    """The queue. Belongs to the event loop that first adds to it."""

    __slots__ = ("_due", "_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[Waiting, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        return self._seconds

    def add(self, waiting: Waiting) -> None:
        """Call ``overdue`` in ``seconds``, unless it is discarded before."""
        loop = asyncio.get_running_loop()
        self._due[waiting] = due = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(due, self._sweep)

    def discard(self, waiting: Waiting) -> None:
        self._due.pop(waiting, None)

    def _sweep(self) -> None:
        """Tell all that are due; then sleep until the next is. With none left there is no timer."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._due:
            waiting, due = next(iter(self._due.items()))
            if due > now:
                self._timer = loop.call_at(due, self._sweep)
                return
            del self._due[waiting]
            waiting.overdue()
        self._timer = None
