"""A proxy between one caller and a real API server, which records every call and fails on demand.

It shows the API server the certificate of the kubeconfig it was given, whatever the caller shows; ``as_user`` makes it
speak for somebody with fewer rights. Towards the caller it is plain HTTP on loopback: ``kubeconfig`` leads to it.
Watches are passed on line by line. It lives in the event loop of its test, so a test must not block that loop for long.

``on_mutation`` is asked before each counted call (see :attr:`Call.counted`), with its number from 1: ``Cut.BEFORE``
awaits ``cut`` and drops the call, ``Cut.AFTER`` has it carried out, awaits ``cut`` and tells nobody;
``Cut.LATE`` awaits ``cut`` before all else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from roadstead_gateway.kube import ApiAccess, find_access
from tests.faults.rig.kube_calls import Call, Match, read_call
from tests.faults.rig.kube_faults import (
    OF_STREAMS,
    Answer,
    BlackHole,
    CutAfter,
    CutBefore,
    Delay,
    Effect,
    Expired,
    Fault,
)
from tests.faults.rig.watch_stream import WatchStream, expired_event
from tests.simulation.calls import Cut

_LONGEST_LINE_BYTES: Final = 8 << 20
_DROPPED: Final = frozenset({"host", "connection", "content-length", "accept-encoding", "authorization"})
_OWN: Final = frozenset({"connection", "content-length", "transfer-encoding", "date"})
_OF_SERVICE_ACCOUNTS: Final = ("system:serviceaccounts", "system:authenticated")


async def _nobody() -> None:
    """Nobody is to die."""


class ApiProxy:
    """Made by :func:`api_proxy`."""

    def __init__(self, access: ApiAccess, *, as_user: str = "") -> None:
        self.calls: list[Call] = []
        self.on_mutation: Callable[[int, Call], Cut | None] = lambda _number, _call: None
        self.cut: Callable[[], Awaitable[None]] = _nobody
        self.mutations = 0
        """How many counted calls there were."""
        self._access = access
        self._as_user = as_user
        self._faults: list[list[Fault]] = []
        self._left: dict[int, int] = {}
        self._over = asyncio.Event()
        self._streams: set[WatchStream] = set()
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._port = 0

    # ── What a test does to it ───────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        """These faults for as long as the block lasts, before those that are there already."""
        given = list(faults)
        self._left |= {id(fault): fault.times for fault in given if fault.times is not None}
        self._faults.insert(0, given)
        try:
            yield
        finally:
            self._faults = [each for each in self._faults if each is not given]
            self._over.set()
            self._over = asyncio.Event()

    async def up(self) -> None:
        """Listen, on the same port as before."""
        application = web.Application(client_max_size=_LONGEST_LINE_BYTES)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def down(self) -> None:
        """Nobody listens, and every connection is cut."""
        if self._runner is None:
            return
        server = self._runner.server
        for connection in server.connections if server is not None else ():
            if connection.transport is not None:
                connection.transport.abort()
        self.end_watches(Match())
        await self._runner.cleanup()
        self._runner = None

    def end_watches(self, match: Match, *, expired: bool = False) -> int:
        """End the open watches of these calls, with "410 Gone" if asked; how many."""
        ended = [stream for stream in self._streams if match(stream.call)]
        for stream in ended:
            stream.end(expired_event() if expired else b"")
        return len(ended)

    def made(self, match: Match, *, since: int = 0) -> list[Call]:
        """The recorded calls of that kind, from that position on."""
        return [call for call in self.calls[since:] if match(call)]

    def watching(self, match: Match) -> int:
        """How many such watches are open and told."""
        return sum(match(stream.call) and not stream.deaf for stream in self._streams)

    @property
    def url(self) -> str:
        """Where the caller finds it."""
        return f"http://127.0.0.1:{self._port}"

    def write_kubeconfig(self, path: Path) -> Path:
        """A kubeconfig that leads here."""
        named = "through-the-proxy"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": named, "cluster": {"server": self.url}}],
            "users": [{"name": named, "user": {"token": "the-proxy-shows-its-own"}}],
            "contexts": [{"name": named, "context": {"cluster": named, "user": named}}],
            "current-context": named,
        }
        path.write_text(yaml.safe_dump(config))
        return path

    # ── What it does ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = read_call(request.method, request.path, request.query, at=asyncio.get_running_loop().time())
        self.calls.append(call)
        side = self._side(call)
        if side in (Cut.BEFORE, Cut.LATE):
            await self.cut()
        if side is Cut.BEFORE:
            return _abort(request)
        answer = await self._under_faults(request, call)
        if side is Cut.AFTER:
            await self.cut()
            return _abort(request)
        return answer

    def _side(self, call: Call) -> Cut | None:
        if not call.counted:
            return None
        self.mutations += 1
        return self.on_mutation(self.mutations, call)

    async def _under_faults(self, request: web.Request, call: Call) -> web.StreamResponse:
        effect = self._effect_on(call, of_streams=False)
        match effect:
            case Answer(status=status, body=body, headers=headers):
                call.status = status
                return web.Response(status=status, body=body, headers=headers, content_type="application/json")
            case CutBefore():
                return _abort(request)
            case BlackHole():
                await self._over.wait()
                return _abort(request)
            case Delay(seconds=seconds):
                await asyncio.sleep(seconds)
            case _:
                pass
        try:
            return await self._forward(request, call, effect)
        except (aiohttp.ClientError, OSError):
            return _abort(request)

    async def _forward(self, request: web.Request, call: Call, effect: Effect | None) -> web.StreamResponse:
        assert self._session is not None
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _DROPPED]
        if self._as_user:
            headers += [("Impersonate-User", self._as_user)]
            headers += [("Impersonate-Group", group) for group in _OF_SERVICE_ACCOUNTS]
        async with self._session.request(
            request.method,
            URL(self._access.server + request.raw_path, encoded=True),
            headers=headers,
            data=await request.read() or None,  # without a body no type of one is made up
        ) as upstream:
            own = {name: value for name, value in upstream.headers.items() if name.lower() not in _OWN}
            if call.verb == "watch" and upstream.status == 200:
                return await self._pass_on(request, call, upstream, own, effect)
            body = await upstream.read()
            if effect == CutAfter():
                return _abort(request)
            call.status = upstream.status
            return web.Response(status=upstream.status, body=body, headers=own)

    async def _pass_on(
        self,
        request: web.Request,
        call: Call,
        upstream: aiohttp.ClientResponse,
        headers: dict[str, str],
        effect: Effect | None,
    ) -> web.StreamResponse:
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(request)
        call.status = 200
        stream = WatchStream(call=call, effect=lambda each: self._effect_on(each, of_streams=True))
        if effect == Expired():
            stream.end(expired_event())
        self._streams.add(stream)
        try:
            async with aclosing(stream.lines(aiter(upstream.content))) as lines:
                async for line in lines:
                    await answer.write(line)
        finally:
            self._streams.discard(stream)
        return answer

    def _effect_on(self, call: Call, *, of_streams: bool) -> Effect | None:
        for fault in (each for given in self._faults for each in given):
            left = self._left.get(id(fault))
            if isinstance(fault.effect, OF_STREAMS) is not of_streams or left == 0 or not fault.match(call):
                continue
            if left is not None:
                self._left[id(fault)] = left - 1
            return fault.effect
        return None

    async def open(self) -> None:
        """Connect to the API server when it is needed, and listen."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._access.tls, limit=0),
            headers=self._access.headers(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            read_bufsize=_LONGEST_LINE_BYTES,
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
        )
        await self.up()

    async def close(self) -> None:
        """End everything."""
        await self.down()
        if self._session is not None:
            await self._session.close()


@asynccontextmanager
async def api_proxy(kubeconfig: Path, *, as_user: str = "") -> AsyncIterator[ApiProxy]:
    """A proxy before the API server of that kubeconfig, on a free port of loopback."""
    proxy = ApiProxy(find_access(kubeconfig), as_user=as_user)
    await proxy.open()
    try:
        yield proxy
    finally:
        with suppress(asyncio.CancelledError):
            await proxy.close()


def _abort(request: web.Request) -> web.StreamResponse:
    """End the connection without a word."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)  # nobody is there to read it
