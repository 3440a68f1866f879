"""The read API on its port, in the operator's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

_LAST_ANSWERS_SECONDS: Final = 2
_BACKLOG: Final = 128
_LOOK_SECONDS: Final = 0.01


class _Server(uvicorn.Server):
    """A server without signal handlers: Kopf has those."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve_api(app: ASGIApp, listen: str) -> AsyncIterator[int]:
    """Serve while the block lasts; yields the port. ``OSError`` if ``listen`` (``host:port``) cannot be listened on."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Bound here: uvicorn would end the process over a port that is taken.
    listening = socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="read API")
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells no event
            await asyncio.sleep(_LOOK_SECONDS)
        if serving.done():
            serving.result()
            raise OSError("the read API's server ended before it began")
        yield int(listening.getsockname()[1])
    finally:
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        listening.close()
