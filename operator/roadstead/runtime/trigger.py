"""Many events, one loop: pokes of all kinds are gathered until it is quiet, and then one turn looks at everything.

Guarantees: after a poke a turn starts within ``max_wait``, or soon after a long one; a burst costs one turn; without
any poke a turn starts after ``resync``. One consumer, so nothing needs a lock. A poke during a turn starts the next.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Debounce:
    """How long to gather, in seconds."""

    quiet: float = 0.1
    """A turn starts when nothing happened for this long.

    A new model takes three or four turns until it is planned (claim, resolve, release, place), each woken by what the
    one before wrote: half a second here was two seconds there, while a turn itself costs 20 to 90 ms.
    """
    max_wait: float = 0.3
    """Nor later than this after the first poke: in a large fleet something happens all the time."""
    pause: float = 0.25
    """Or than this part of what the turn before took, after its end: when much comes at once, turns are long."""
    resync: float = 60.0
    """Nor later than this after the last turn: the level is looked at even if every event was lost."""


class Trigger:
    """Where everything that may matter pokes, and where the loop waits."""

    def __init__(self, debounce: Debounce | None = None) -> None:
        self._debounce = debounce or Debounce()
        self._reasons: set[str] = set()
        self._poked = asyncio.Event()
        self._first = self._last = 0.0
        """Loop times of the first and the last poke since the last turn began."""
        self._turn_began: float | None = None

    def poke(self, reason: str) -> None:
        """Something happened. Cheap, never blocks, to be called from the loop's own thread."""
        self._last = asyncio.get_running_loop().time()
        if not self._reasons:
            self._first = self._last
        self._reasons.add(reason)
        self._poked.set()

    async def wait(self, *, at_most: float | None = None) -> frozenset[str]:
        """Wait for the next turn; ``at_most`` brings the resync forward. The reasons, empty for a resync."""
        clock = asyncio.get_running_loop().time
        ended = clock()
        took = ended - self._turn_began if self._turn_began is not None else 0.0
        limit = self._debounce.resync if at_most is None else min(at_most, self._debounce.resync)
        if self._reasons or await self._happens(limit):
            await self._settle(max(self._first + self._debounce.max_wait, ended + self._debounce.pause * took))
        reasons = frozenset(self._reasons)
        self._reasons.clear()
        self._poked.clear()
        self._turn_began = clock()
        return reasons

    async def _settle(self, until: float) -> None:
        """Until it has been quiet for long enough; that may have been so while the turn before was still under way."""
        clock = asyncio.get_running_loop().time
        while (left := min(self._last + self._debounce.quiet, until) - clock()) > 0:
            self._poked.clear()
            await self._happens(left)

    async def _happens(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._poked.wait()
        except TimeoutError:
            return False
        return True
