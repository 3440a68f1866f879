"""Notices that a client has left, and cancels the work that was for it.

A model keeps computing for as long as its connection stands, so this frees an engine's slot. ASGI tells of a departure
only to whoever calls ``receive``; that takes a task of its own, which is started only for requests that last: what is
answered within ``PATIENCE_SECONDS`` has nothing worth cancelling, and the task would be a tenth of its cost.
"""

from __future__ import annotations

import asyncio
from typing import Final, Self

from starlette.types import Receive

from roadstead_gateway.deadlines import Deadlines

PATIENCE_SECONDS: Final = 0.02


class Departure:
    """``with Departure(receive, patience) as departure``: the block is cancelled when the client leaves.

    The block must catch ``CancelledError`` and call ``claims`` to know whether it was this. ``stop`` before the last
    message of an answer: once it is complete, ``receive`` says "disconnect" of every client.
    """

    __slots__ = ("_patience", "_receive", "_task", "_watch", "gone")

    def __init__(self, receive: Receive, patience: Deadlines) -> None:
        self._receive = receive
        self._patience = patience
        self._watch: asyncio.Task[None] | None = None
        self.gone = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a Departure needs a task it could cancel")
        self._task = task
        self._patience.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._patience.discard(self)
        if self._watch is not None:
            self._watch.cancel()

    def overdue(self) -> None:
        """The request lasts: from now on it is worth a task that listens."""
        self._watch = self._task.get_loop().create_task(self._listen())

    def claims(self) -> bool:
        """Whether the cancellation just caught came from here; then it is over and done with."""
        if self.gone:
            self._task.uncancel()
        return self.gone

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._task.cancel()
