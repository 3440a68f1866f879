"""A proxy between a caller and a real Postgres: it counts transactions that wrote, and fails on demand.

``on_commit`` is asked at each COMMIT of a transaction that inserted, changed or deleted a row, with its number from 1:
``Cut.BEFORE`` awaits ``cut`` and ends both connections before the server hears of the COMMIT, so that it rolls back;
``Cut.AFTER`` lets the server commit, awaits ``cut`` and tells nobody; ``Cut.LATE`` awaits ``cut`` and passes the COMMIT
on, if the server has not ended the connection by then. Passwords and rows pass through unread and are not kept.
What a proxy cannot do (read-only, locks, no more connections) a test does to the server itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Final

from sqlalchemy.engine import URL

from tests.faults.rig.postgres_messages import UNFINISHED, Conversation, Message, read_first, read_message
from tests.simulation.calls import Cut

_DEFAULT_PORT: Final = 5432


class Flow(StrEnum):
    """What becomes of connections, those that are open included."""

    FREE = "free"
    REFUSED = "refused"
    """Cut at once."""
    SWALLOWED = "swallowed"
    """Accepted; nothing comes back. When it flows again, connections from before are cut."""


class _Severed(Exception):
    """This connection is over."""


async def _nobody() -> None:
    """Nobody is to die."""


class PostgresProxy:
    """Made by :func:`postgres_proxy`."""

    def __init__(self, target: URL) -> None:
        self.on_commit: Callable[[int], Cut | None] = lambda _number: None
        self.cut: Callable[[], Awaitable[None]] = _nobody
        self.commits = 0
        """How many transactions that wrote came to their COMMIT."""
        self.delay_seconds = 0.0
        """Before each message of a client is passed on."""
        self.connections = 0
        """How many were ever accepted."""
        self._target = target
        self._flow = Flow.FREE
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def url(self) -> URL:
        """The database by way of this proxy."""
        return self._target.set(host="127.0.0.1", port=self._port, query={})

    def flow(self, flow: Flow) -> None:
        """Let connections pass, refuse them or swallow what they say."""
        swallowed, self._flow = self._flow is Flow.SWALLOWED, flow
        if flow is Flow.SWALLOWED:
            self._flowing.clear()
            return
        self._flowing.set()
        if flow is Flow.REFUSED or swallowed:
            self.sever()

    def sever(self) -> None:
        """End every connection that is open; new ones are as good as before."""
        for task in self._open:
            task.cancel()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its last."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        try:
            await self._serve(reader, writer)
        except (OSError, EOFError, _Severed, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._flow is Flow.REFUSED:
            raise _Severed
        await self._flowing.wait()
        first = await read_first(reader, writer)
        far_reader, far_writer = await self._connect()
        try:
            far_writer.write(first.wire)
            conversation = Conversation()
            sides = (
                asyncio.create_task(self._ask(reader, far_writer, conversation)),
                asyncio.create_task(self._tell(far_reader, writer, conversation)),
            )
            try:
                await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for side in sides:
                    side.cancel()
                await asyncio.gather(*sides, return_exceptions=True)
        finally:
            far_writer.transport.abort()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, conversation: Conversation
    ) -> None:
        question = b""
        while True:
            message = await read_message(reader)
            await self._flowing.wait()
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            if conversation.asks_to_commit(message):
                await self._commit(conversation)
            question += message.wire
            if message.kind not in UNFINISHED:
                # Whole, as it was sent: a server that has heard half a question does not count as idle.
                writer.write(question)
                await writer.drain()
                question = b""

    async def _commit(self, conversation: Conversation) -> None:
        if not conversation.wrote:
            return
        self.commits += 1
        match self.on_commit(self.commits):
            case Cut.BEFORE:
                await self.cut()
                raise _Severed
            case Cut.AFTER:
                conversation.committing = True
            case Cut.LATE:
                await self.cut()
            case None:
                pass

    async def _tell(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, conversation: Conversation
    ) -> None:
        unheard: list[Message] = []
        while True:
            message = await read_message(reader)
            await self._flowing.wait()
            if conversation.committing:
                unheard.append(message)
            conversation.hears(message)
            if unheard and not conversation.committing:
                await self.cut()
                raise _Severed
            if not unheard:
                writer.write(message.wire)
                await writer.drain()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = self._target.port or _DEFAULT_PORT
        host = self._target.query.get("host") or self._target.host
        assert isinstance(host, str)
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def listen(self) -> asyncio.Server:
        """On a free port of loopback."""
        server = await asyncio.start_server(self.accept, "127.0.0.1", self._port)
        self._port = server.sockets[0].getsockname()[1]
        return server


@asynccontextmanager
async def postgres_proxy(target: URL) -> AsyncIterator[PostgresProxy]:
    """A proxy before that database, on a free port of loopback."""
    proxy = PostgresProxy(target)
    server = await proxy.listen()
    try:
        yield proxy
    finally:
        server.close()
        proxy.flow(Flow.FREE)
        proxy.sever()
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await server.wait_closed()
