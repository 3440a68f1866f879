"""Lines sent as they come, until they end or the client goes.

Starlette's own streaming notices a client that has gone only when it sends something. A log that is quiet for hours
sends nothing, so here the client is listened to as well. A slow client is waited for: nothing is piled up for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from roadstead.api.problems import ApiCode, ApiProblem

STREAMS_LIMIT: Final = 32


class Streams:
    """How many streams are under way, and that they are not too many."""

    def __init__(self, *, limit: int = STREAMS_LIMIT) -> None:
        self._limit = limit
        self._open = 0

    def __enter__(self) -> None:
        self._open += 1

    def __exit__(self, *_: object) -> None:
        self._open -= 1

    def require_room(self) -> None:
        """``ApiProblem`` ``TooManyStreams`` if there is none."""
        if self._open >= self._limit:
            raise ApiProblem(ApiCode.TOO_MANY_STREAMS, f"{self._limit} streams are under way at this operator.")


class LineStream(Response):
    """Text lines; owns the generator and closes it whatever happens."""

    media_type = "text/plain"

    def __init__(self, lines: AsyncGenerator[str, None], *, streams: Streams) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self._lines = lines
        self._streams = streams

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams:
            sending = asyncio.ensure_future(self._send(send))
            leaving = asyncio.ensure_future(_until_gone(receive))
            try:
                await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    sending.result()
            finally:
                sending.cancel()
                leaving.cancel()
                await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._lines) as lines:
            async for line in lines:
                body = f"{line}\n".encode(errors="replace")
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
