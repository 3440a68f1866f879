"""A state that others follow: published under a digest, answered at once when it differs, else after a change.

``GET /state?after=<digest>`` costs an idle fleet one request per door and waiting time, and tells a change within a
round trip. The digest covers everything but itself. The bytes of a whole answer are made once per change, by the first
request for them.

Concurrency: everything runs on one event loop. A waiter that is cancelled (client gone, shutdown) leaves nothing
behind; ``close`` answers all waiters, so that a stopping door does not hold its callers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Final, Generic, TypeVar

from aiohttp import web

from roadstead_worker.agent.door import DoorProblem
from roadstead_worker.contract import LONG_POLL_SECONDS, CellState, NodeState

State = TypeVar("State", NodeState, CellState)

_AFTER_LIMIT: Final = 128


class PublishedState(Generic[State]):
    """The last published state; ``publish`` it, follow it with ``wait``, serve it with ``handle``."""

    def __init__(self, *, wait_seconds: float = LONG_POLL_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        self._state: State | None = None
        self._body = b""
        """The state in bytes; empty until somebody asks for all of it."""
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def state(self) -> State | None:
        """What was published last, its digest filled in; ``None`` before the first time."""
        return self._state

    def publish(self, state: State) -> bool:
        """Take ``state`` (its ``digest`` is computed here, whatever it says); tell whether anything changed."""
        digest = state_digest(state)
        if self._state is not None and digest == self._state.digest:
            return False
        self._state = state.model_copy(update={"digest": digest})
        self._body = b""
        self._wake()
        return True

    async def wait(self, *, after: str = "") -> State | None:
        """The state once its digest is not ``after``, or as it is after the waiting time; ``None`` if there is none."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                while not self._closed and (self._state is None or self._state.digest == after):
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self._state

    async def handle(self, request: web.Request) -> web.Response:
        """``GET /state?after=<digest>&changes=1``; 503 ``StateUnknown`` as long as nothing was published."""
        after = request.query.get("after", "")
        if len(after) > _AFTER_LIMIT:
            raise DoorProblem(status=400, code="InvalidRequest", message="This is no digest of a state.", field="after")
        if await self.wait(after=after) is None:
            raise DoorProblem(
                status=503, code="StateUnknown", message="The agent has not looked around yet: ask again."
            )
        body = self.body(after=after, changes=request.query.get("changes") == "1")
        return web.Response(body=body, content_type="application/json")

    def body(self, *, after: str, changes: bool) -> bytes:
        """What is answered to somebody who knows the state ``after`` and can read changes to it: here, everything."""
        del after, changes
        if not self._body and self._state is not None:
            self._body = self._state.model_dump_json().encode()
        return self._body

    def close(self) -> None:
        """Answer everybody who waits, now and later, at once."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        # A fresh event for later waiters: whoever waits on this one is woken exactly once.
        self._changed.set()
        self._changed = asyncio.Event()


def state_digest(state: State) -> str:
    """Digest of everything in ``state`` but its own ``digest``, independent of the order of keys."""
    content = json.dumps(state.model_dump(mode="json", exclude={"digest"}), sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()
