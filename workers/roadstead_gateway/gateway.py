"""One gateway, put together: the table, what fills it, what is kept, and the two ports.

Order at the start: last good routes, then the ports, then the API server. So a gateway serves within a second of its
start, with or without an API server; ``/readyz`` says when there is something to serve.

Order at the end (SIGTERM): unready at once, the client port takes no new connections and finishes what is under way
for at most ``drain_seconds``, then the internal port closes, so that the operator can watch the drain to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import Any, Final

import structlog
import uvicorn
from starlette.types import ASGIApp

from roadstead_gateway import saved
from roadstead_gateway.apis.body import BodyReader
from roadstead_gateway.apis.internal import Inside, internal_app
from roadstead_gateway.apis.openai import OpenAI
from roadstead_gateway.contract import Tallies
from roadstead_gateway.keys import KeyRing, WatchedFile, follow, parse_token
from roadstead_gateway.kube import find_access
from roadstead_gateway.metrics import GatewayCollector, exposition
from roadstead_gateway.routes import RouteTable
from roadstead_gateway.settings import Settings, split_host_port
from roadstead_gateway.tallies import CounterBook
from roadstead_gateway.upstream import Upstream
from roadstead_gateway.watch import RouteWatch, WatchTimes

log = structlog.stdlib.get_logger(__name__)

KEEP_ALIVE_SECONDS: Final = 75
"""Longer than the 60 s after which usual load balancers drop an idle connection, so that they drop it, not we."""


class _Server(uvicorn.Server):
    """A server without signal handlers: there are two in this process, and the gateway ends them in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: ASGIApp, listen: str, *, drain_seconds: float) -> _Server:
    host, port = split_host_port(listen)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )
    return _Server(config)


class Gateway:
    """Owns everything a gateway has; ``run`` returns when it has been stopped and drained."""

    def __init__(self, settings: Settings, *, watch_times: WatchTimes | None = None) -> None:
        self._settings = settings
        self._book = CounterBook()
        self.table = RouteTable(self._book)
        self._keys = WatchedFile(settings.keys_file, KeyRing.parse, missing=KeyRing())
        self._replica_token = WatchedFile(settings.replica_token_file, parse_token, missing="")
        self._door_token = WatchedFile(settings.door_token_file, parse_token, missing="")
        self._watch = RouteWatch(
            self.table,
            lambda: find_access(settings.kubeconfig),
            namespace=settings.namespace,
            clock=monotonic,
            times=watch_times,
        )
        self._stopping = asyncio.Event()
        self._client_server: _Server | None = None

    def stop(self) -> None:
        """Begin to drain; a second call ends at once."""
        if self._stopping.is_set() and self._client_server is not None:
            self._client_server.force_exit = True
        self._stopping.set()

    def keys(self) -> KeyRing:
        """The client keys known now."""
        return self._keys.value

    def tallies(self) -> Tallies:
        return Tallies(
            gateway=self._settings.identity,
            synced=self._watch.synced,
            routes=self.table.seen(),
            slots=tuple(slot.tally() for slot in self._book.slots()),
        )

    def unready(self) -> str:
        """Why no client should be sent here; empty when all is well."""
        if self._stopping.is_set():
            return "stopping"
        if not self._keys.loaded or not self._replica_token.loaded:
            return "the files of keys or of the replica token cannot be read"
        if not self._watch.synced and not len(self.table):
            return "no routes yet, and the API server has not answered"
        return ""

    def watch_age(self) -> float | None:
        heard = self._watch.last_byte_at
        return None if heard is None else monotonic() - heard

    async def run(self) -> None:
        settings = self._settings
        files = (self._keys, self._replica_token, self._door_token)
        for file in files:
            file.refresh()
        self.table.replace(await asyncio.to_thread(saved.load, settings.state_dir))
        upstream = Upstream(connect_seconds=settings.connect_seconds, silence_seconds=settings.silence_seconds)
        async with (
            upstream,
            _task(follow(*files)),
            _task(saved.keep(self.table, settings.state_dir)),
            _task(self._watch.run()),
        ):
            await self._serve(upstream)

    async def _serve(self, upstream: Upstream) -> None:
        settings = self._settings
        clients = OpenAI(
            table=self.table,
            book=self._book,
            upstream=upstream,
            keys=self.keys,
            replica_token=lambda: self._replica_token.value,
            bodies=BodyReader(limit_bytes=settings.body_limit_bytes, seconds=settings.body_seconds),
        )
        collector = GatewayCollector(self._book, synced=lambda: self._watch.synced, watch_age=self.watch_age)
        inside = Inside(
            tallies=self.tallies,
            door_token=lambda: self._door_token.value,
            metrics=exposition(collector),
            unready=self.unready,
        )
        self._client_server = client_server = _server(clients, settings.listen, drain_seconds=settings.drain_seconds)
        internal_server = _server(internal_app(inside), settings.internal_listen, drain_seconds=1)
        async with _served(internal_server), _served(client_server):
            log.info("gateway_serves", listen=settings.listen, internal=settings.internal_listen)
            await self._stopping.wait()
            log.info("gateway_drains", seconds=settings.drain_seconds)


@contextlib.asynccontextmanager
async def _task(work: Any) -> AsyncIterator[None]:  # noqa: ANN401 - a coroutine of any kind
    """A background task that ends with the block. If it dies before, that is a bug: the block is cancelled with it."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        yield
        task.cancel()


@contextlib.asynccontextmanager
async def _served(server: _Server) -> AsyncIterator[None]:
    """A running server; left in order, it takes nothing new and finishes what is under way."""
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            done, _ = await asyncio.wait({serving}, timeout=0.01)
            if done:
                await serving
                raise OSError("the server ended before it began")
        yield
    finally:
        server.should_exit = True
        await serving


async def serve(settings: Settings) -> None:
    """Run a gateway until SIGTERM or SIGINT."""
    gateway = Gateway(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gateway.stop)
    await gateway.run()
