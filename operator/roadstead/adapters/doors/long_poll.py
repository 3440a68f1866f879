"""How a state is followed: the door answers when its digest is another one than ours, else after a while."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from pydantic import BaseModel

from roadstead.adapters.doors.caller import DoorCaller

_GRACE_SECONDS: Final = 8.0
"""What an answer may take beyond the wait it was asked for; together less than an answer is good for."""
_PAUSE_SECONDS: Final = 1.0


class State(Protocol):
    @property
    def digest(self) -> str: ...


S = TypeVar("S", bound=BaseModel)
K = TypeVar("K", bound=State)


def long_poll(
    caller: DoorCaller, shape: type[S], *, keep: Callable[[S, K | None], K], kept: type[K], wait_seconds: float
) -> Callable[[str, K | None], Awaitable[K]]:
    """Ask for the state after the one that is known, at a door that waits ``wait_seconds`` for news.

    ``keep`` is given the answer, which may tell only what changed, and the known one.
    """

    async def ask(url: str, known: K | None) -> K:
        return await caller.read(
            f"{url}/state",
            shape,
            keep=lambda state: keep(state, known),
            kept=kept,
            seconds=wait_seconds + _GRACE_SECONDS,
            params={} if known is None else {"after": known.digest, "changes": "1"},
        )

    return ask


def pause_before_next(known: State | None, answer: State) -> float:
    """None after news. A door that repeats itself without having waited is not asked in a tight loop."""
    return _PAUSE_SECONDS if known is not None and known.digest == answer.digest else 0.0
