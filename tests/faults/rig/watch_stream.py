"""One watch on its way through the proxy: its events are passed on, repeated, swapped, or lost for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from tests.faults.rig.kube_calls import Call
from tests.faults.rig.kube_faults import Effect, HalfOpen, Repeated, Swapped, status_object

_TOGETHER_SECONDS: Final = 0.3
"""An event is held back for so long at most, for another to be told before it."""


def expired_event() -> bytes:
    """The last line of a watch whose version is no longer known."""
    return json.dumps({"type": "ERROR", "object": status_object(410)}).encode() + b"\n"


@dataclass(slots=True, kw_only=True, eq=False)
class WatchStream:
    """``lines`` gives what the caller is to hear."""

    call: Call
    effect: Callable[[Call], Effect | None]
    """What happens to the next event."""
    deaf: bool = False
    """Nothing comes any more."""
    _last_word: asyncio.Future[bytes] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _before: bytes | None = None
    _held: bytes | None = None

    def end(self, last_word: bytes = b"") -> None:
        """Say this and end the stream."""
        if not self._last_word.done():
            self._last_word.set_result(last_word)

    async def lines(self, source: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """The lines for the caller, until the server ends the watch or :meth:`end` is called."""
        following: asyncio.Task[bytes] | None = None
        try:
            while True:
                following = following or asyncio.ensure_future(anext(source))
                patience = _TOGETHER_SECONDS if self._held is not None else None
                done, _ = await asyncio.wait(
                    {following, self._last_word}, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                )
                if self._last_word in done:
                    yield self._last_word.result()
                    return
                if following in done:
                    try:
                        line = following.result()
                    except StopAsyncIteration:
                        return
                    following = None
                    for told in self._told(line):
                        yield told
                elif self._held is not None:
                    held, self._held = self._held, None
                    yield held
        finally:
            if following is not None:
                following.cancel()

    def _told(self, line: bytes) -> tuple[bytes, ...]:
        effect = None if self.deaf else self.effect(self.call)
        before, self._before = self._before, line
        held, self._held = self._held, None
        match effect:
            case HalfOpen():
                self.deaf = True
            case Repeated() if before is not None:
                return (line, before, line)
            case Swapped() if held is None:
                self._held = line
                return ()
            case _:
                pass
        if self.deaf:
            return ()
        return (line,) if held is None else (line, held)
