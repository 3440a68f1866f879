"""A door that does what the test says: keeps a state for long polls, answers writes from a script, fails on demand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aiohttp import web
from pydantic import BaseModel

from roadstead_worker.contract import EPOCH_HEADER, CellState, NodeState, Problem

TOKEN = "let-me-in"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    epoch: str | None
    body: bytes


class ScriptedDoor:
    """Use as an async context. ``fault`` decides, until it is None again, what happens to every request."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: list[Request] = []
        self.after: list[str] = []
        """The digests that polls named."""
        self.script: deque[web.Response] = deque()
        self.tallies: BaseModel | None = None
        self.fault: str | None = None
        self.url = ""
        self.waiting = 0
        self.hold: asyncio.Event | None = None
        """While set, writes wait for it before they are answered."""
        self.on_write: Callable[[Request], None] = lambda _: None
        self._state: NodeState | CellState | None = None
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._host = host
        self._port = port

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        application = web.Application()
        application.router.add_get("/state", self._get_state)
        application.router.add_get("/internal/tallies", self._get_tallies)
        application.router.add_route("*", "/{path:.*}", self._write)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://{self._host}:{self._port}"

    async def close(self) -> None:
        """Nobody listens there any more, until it is opened again."""
        self._wake()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def publish(self, state: NodeState | CellState) -> None:
        self._state = state
        self._wake()

    def answers(self, body: BaseModel | None, status: int = 200) -> None:
        """What the next write is answered."""
        text = None if body is None else body.model_dump_json()
        self.script.append(web.Response(status=status, text=text, content_type="application/json"))

    def refuses(self, status: int, code: str, *, epoch: int | None = None) -> None:
        self.answers(Problem(code=code, message="as the script says", epoch=epoch), status)

    def fails(self, fault: str | None) -> None:
        """``cut`` the connection, answer ``garbage``, or stay ``silent``; None: as it should be."""
        self.fault = fault
        self._wake()

    async def _get_state(self, request: web.Request) -> web.StreamResponse:
        after = request.query.get("after", "")
        self.after.append(after)
        self.waiting += 1
        try:
            while self.fault is None and (self._state is None or self._state.digest == after):
                await self._changed.wait()
        finally:
            self.waiting -= 1
        return await self._answer(request, self._state)

    async def _get_tallies(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, self.tallies)

    async def _answer(self, request: web.Request, body: BaseModel | None) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"code": "Unauthorized", "message": "no"}, status=401)
        if self.fault == "garbage":
            return web.Response(text='{"digest": 7, "surprise": true}')
        if self.fault == "cut" or body is None:
            assert request.transport is not None
            request.transport.abort()
        while self.fault == "silent":
            await self._changed.wait()
        return web.Response(text="" if body is None else body.model_dump_json())

    async def _write(self, request: web.Request) -> web.StreamResponse:
        seen = Request(request.method, request.path, request.headers.get(EPOCH_HEADER), await request.read())
        self.requests.append(seen)
        self.on_write(seen)
        if self.hold is not None:
            await self.hold.wait()
        if self.fault is not None:
            return await self._answer(request, None)
        return self.script.popleft()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
