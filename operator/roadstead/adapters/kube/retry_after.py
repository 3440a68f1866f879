"""When the API server may be asked again: what it says in ``Retry-After`` holds for everything that goes the same way.

Guarantees: after a refusal with ``Retry-After`` nothing is sent until that time is over, and then one request first;
only when that is answered otherwise do the others go again. Of those that come meanwhile one waits to be that first
one, the others are refused here at once, so that a turn that has two thousand things to write costs the server one
request and itself no more than the pause. A pause is never longer than ``LONGEST_SECONDS``, whatever was said.

Leases do not come here: one that is not renewed is lost, and a renewal every two seconds is no load.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

LONGEST_SECONDS: Final = 60.0
_REFUSALS: Final = frozenset({429, 503})


class NotYet(Exception):
    """The server asked to be left alone, and it is not time yet."""

    def __init__(self, left_seconds: float) -> None:
        super().__init__(f"the API server asked to wait; {max(0.0, left_seconds):.0f} s are left")


class RetryAfter:
    """One for each way to the API server. Not to be shared between event loops."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._until: float | None = None
        """Time from which one request may try; None: nobody waits."""
        self._trying = False

    @asynccontextmanager
    async def passed(self, *, patience_seconds: float) -> AsyncIterator[None]:
        """Send within this block. Raises :class:`NotYet` instead of waiting for longer, or beside another."""
        if self._until is None:
            yield
            return
        left = self._until - self._clock()
        if self._trying or left > patience_seconds:
            raise NotYet(left)
        self._trying = True
        try:
            await self._sleep(left)
            yield
        finally:
            self._trying = False

    def heard(self, status: int, retry_after: str | None) -> None:
        """Take note of an answer. One to what was sent before the refusal does not end the pause."""
        if status in _REFUSALS and retry_after is not None and retry_after.isdecimal():
            self._until = self._clock() + min(float(retry_after), LONGEST_SECONDS)
        elif self._until is not None and self._clock() >= self._until:
            self._until = None
