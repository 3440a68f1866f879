"""The replica's door: a bare ASGI app between Serve's port and the engine.

Demands the shared secret, lets a few paths through, and streams. Not done here: quotas, retries and routing (the
gateway's), chat templates (the engine's). Guarantees:

- No answer is invented. A stream that the engine did not finish (``[DONE]``) ends with an error event, and half an
  event is never sent; any other answer is passed on only when it is whole.
- A client that leaves ends the engine's work on its request: the connection to the engine is closed.
- No connection to the engine is used twice. llama.cpp advertises keep-alive and hangs up after streamed answers; a
  new loopback connection costs 0.1 ms, while a retry after a reset might run a request twice.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import aiohttp

from roadstead_worker.contract import REPLICA_HEADER
from roadstead_worker.engines.base import Capabilities
from roadstead_worker.replica.event_stream import EventStream

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

LARGEST_REQUEST_BYTES: Final = 32 * 1024 * 1024
_CONNECT_SECONDS: Final = 5.0
_PASSED_REQUEST_HEADERS: Final = frozenset({b"content-type", b"accept", b"x-request-id"})
_PASSED_ANSWER_HEADERS: Final = ("content-type", "cache-control", "retry-after")
_SECRET_HEADER: Final = REPLICA_HEADER.lower().encode()


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where the engine is now."""

    address: str
    key: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that may pass."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes


class Refused(Exception):
    """The request ends here with an error of the proxy's own."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    @property
    def body(self) -> bytes:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return json.dumps({"error": {"message": str(self), "type": kind, "code": self.code}}).encode()


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


class ReplicaSecret:
    """The secret in a file.

    Read again when the file has changed and a caller's does not match, so that it can be rotated.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed_ns = -1
        self._value = b""

    def admits(self, presented: bytes) -> bool:
        """Compares in constant time. An empty or missing file admits nobody."""
        return self._equals(presented) or (self._reread() and self._equals(presented))

    def _equals(self, presented: bytes) -> bool:
        return bool(self._value) and hmac.compare_digest(self._value, presented)

    def _reread(self) -> bool:
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns == self._changed_ns:
                return False
            self._value = self._path.read_bytes().strip()
        except OSError:
            return False
        self._changed_ns = changed_ns
        return True


class ReplicaProxy:
    """The ASGI app.

    ``upstream`` returns None while no engine is there; ``on_answer`` gets the end of each finished answer.
    """

    def __init__(
        self,
        *,
        secret: ReplicaSecret,
        capabilities: Capabilities,
        upstream: Callable[[], Upstream | None],
        session: aiohttp.ClientSession,
        on_answer: Callable[[bytes, int], None] = lambda _end, _in_flight: None,
    ) -> None:
        self._secret = secret
        self._paths = {"POST": capabilities.post, "GET": capabilities.get}
        self._upstream = upstream
        self._session = session
        self._on_answer = on_answer
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        return self._in_flight

    async def drained(self, within_seconds: float) -> bool:
        """Whether nothing is in flight any more, waited for at most that long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._idle.wait()
        return self._in_flight == 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        self._in_flight += 1
        self._idle.clear()
        try:
            await self._answer(scope, receive, send)
        except Refused as refusal:
            await _send_whole(send, refusal.status, [(b"content-type", b"application/json")], refusal.body)
        except ClientLeft:
            pass
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._idle.set()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if not self._secret.admits(headers.get(_SECRET_HEADER, b"")):
            raise Refused(401, "Unauthorized", f"A replica is called with its secret in the header {REPLICA_HEADER}.")
        path = str(scope["path"]).removeprefix(str(scope.get("root_path", "")))
        method = str(scope["method"])
        if not path.startswith("/"):
            # Ray lets through whatever begins with our prefix: at a port that was another's, /s/node-1 gets /s/node-10.
            raise Refused(503, "AnotherSlot", "This port belongs to another slot now.")
        if path not in self._paths.get(method, frozenset()):
            raise Refused(404, "NotFound", f"A replica does not serve {method} {path}.")
        upstream = self._upstream()
        if upstream is None:
            raise Refused(503, "EngineNotReady", "The engine of this replica is not there yet.")
        wanted = Wanted(method, path, headers, await _body(receive) if method == "POST" else b"")
        work = asyncio.ensure_future(self._forward(upstream, wanted, send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                return
            raise ClientLeft
        finally:
            for task in (work, leaving):
                task.cancel()
            await asyncio.gather(work, leaving, return_exceptions=True)

    async def _forward(self, upstream: Upstream, wanted: Wanted, send: Send) -> None:
        passed = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in wanted.headers.items()
            if name in _PASSED_REQUEST_HEADERS
        }
        passed |= {"Authorization": f"Bearer {upstream.key}", "Accept-Encoding": "identity"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        try:
            async with self._session.request(
                wanted.method,
                upstream.address + wanted.path,
                data=wanted.body or None,
                headers=passed,
                timeout=timeout,
                allow_redirects=False,
            ) as answer:
                if answer.content_type == "text/event-stream":
                    await self._stream(answer, send)
                    return
                whole = await answer.read()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise Refused(503, "EngineUnavailable", f"The engine broke off before its answer: {error}") from error
        self._on_answer(whole[-2048:], self._in_flight)
        await _send_whole(send, answer.status, _answer_headers(answer), whole)

    async def _stream(self, answer: aiohttp.ClientResponse, send: Send) -> None:
        events = EventStream()
        started = False
        broken = ""
        try:
            async for chunk in answer.content.iter_any():
                if ready := events.push(chunk):
                    if not started:
                        started = True
                        await send(_start(answer.status, _answer_headers(answer)))
                    await send({"type": "http.response.body", "body": ready, "more_body": True})
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            broken = f"The engine broke off in the middle of its answer: {error}"
        if not events.finished:
            broken = broken or "The engine ended its answer without finishing it."
            if not started:
                raise Refused(503, "EngineUnavailable", broken)
            event = b"data: " + Refused(503, "EngineUnavailable", broken).body + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": False})
            return
        self._on_answer(events.tail, self._in_flight)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        if length > LARGEST_REQUEST_BYTES:
            raise Refused(413, "RequestTooLarge", f"A request may have at most {LARGEST_REQUEST_BYTES} bytes.")
        if not message.get("more_body", False):
            return b"".join(parts)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def _start(status: int, headers: Iterable[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def _answer_headers(answer: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    """An allow-list: hop-by-hop headers, the length, the engine's CORS and server headers are no client's affair."""
    return [
        (name.encode(), answer.headers[name].encode("latin-1"))
        for name in _PASSED_ANSWER_HEADERS
        if name in answer.headers
    ]


async def _send_whole(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
    await send(_start(status, [*headers, (b"content-length", str(len(body)).encode())]))
    await send({"type": "http.response.body", "body": body, "more_body": False})
