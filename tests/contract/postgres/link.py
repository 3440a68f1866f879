"""A wire to Postgres that can be cut: at any time, or exactly when a COMMIT has been carried out unheard.

Listens on loopback and forwards to the server's unix socket (or port). ``lose_next_commit`` lets the next COMMIT reach
the server and its answer reach nobody, which is what a connection dying in the middle of a commit looks like.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from sqlalchemy.engine import URL


class Link:
    """Use as an async context; ``url`` is the way through it."""

    def __init__(self, target: URL) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._port = 0
        self.lose_next_commit = False
        self.swallow_next_commit = False
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def __aenter__(self) -> Self:
        await self.restore()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()

    @property
    def url(self) -> URL:
        return self._target.set(host="127.0.0.1", port=self._port, query={})

    async def restore(self) -> None:
        """Take connections, on the same port as before."""
        self.thaw()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def freeze(self) -> None:
        """Connections stay and nothing comes back on them."""
        self._flowing.clear()

    def thaw(self) -> None:
        """What was held back goes on."""
        self._flowing.set()

    async def cut(self) -> None:
        """End every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        upstream_reader, upstream = await self._connect()
        self._writers |= {writer, upstream}
        lost = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(reader, upstream, writer, lost))
                group.create_task(self._answers(upstream_reader, writer, lost))
        except* OSError:
            pass
        finally:
            self._writers -= {writer, upstream}
            writer.transport.abort()
            upstream.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        folder = self._target.query.get("host") or self._target.host
        assert isinstance(folder, str)
        if folder.startswith("/"):
            return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{self._target.port or 5432}")
        return await asyncio.open_connection(folder, self._target.port or 5432)

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        lost: asyncio.Event,
    ) -> None:
        while data := await reader.read(65536):
            if b"COMMIT" in data and self.swallow_next_commit:
                self.swallow_next_commit = False
                client.transport.abort()
                raise ConnectionError("the COMMIT never arrived")
            if b"COMMIT" in data and self.lose_next_commit:
                self.lose_next_commit = False
                lost.set()
            upstream.write(data)
            await upstream.drain()
        raise ConnectionError("the client left")

    async def _answers(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if lost.is_set():
                raise ConnectionError("the answer was lost")
            await self._flowing.wait()
            with contextlib.suppress(ConnectionError):
                client.write(data)
                await client.drain()
        raise ConnectionError("the server left")
