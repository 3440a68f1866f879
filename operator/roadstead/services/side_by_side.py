"""Many things of one kind at once, for so long and no longer.

A turn has an end: what it had no time to begin is left to the next one, which has looked at the world again. Two
thousand models that come at once must not keep anybody from seeing that a node died.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

AT_ONCE: Final = 16
_SECONDS: Final = 3.0
"""After so long no further one is begun."""

T = TypeVar("T")


async def side_by_side(things: Sequence[T], do: Callable[[T], Awaitable[None]]) -> int:
    """Do all that can be begun in time, and the first few in any case; the number that could not."""
    if len(things) > AT_ONCE:
        # By chance, or doors that hang would take the same turn's time for ever.
        things = random.sample(things, len(things))
    clock = asyncio.get_running_loop().time
    until = clock() + _SECONDS
    waiting = iter(enumerate(things))
    begun = 0

    async def worker() -> None:
        nonlocal begun
        for number, thing in waiting:
            if number >= AT_ONCE and clock() > until:
                return
            begun += 1
            await do(thing)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(AT_ONCE, len(things))):
            tasks.create_task(worker())
    return len(things) - begun
