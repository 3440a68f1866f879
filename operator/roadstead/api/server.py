"""The read API on its port, in the operator's own event loop.

Kopf cancels, when it ends, every task that was born in its loop after it started: :func:`serve_api` is entered before
Kopf, and what is cancelled then is only the answering of requests in a process that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

_LAST_ANSWERS_SECONDS: Final = 2
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
    config = uvicorn.Config(
        app,
        host=host.strip("[]"),
        port=int(port),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
    )
    socket = config.bind_socket()
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[socket]), name="read API")
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells no event
            await asyncio.sleep(_LOOK_SECONDS)
        if serving.done():
            serving.result()
            raise OSError("the read API's server ended before it began")
        yield socket.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        socket.close()
