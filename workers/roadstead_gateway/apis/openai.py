"""OpenAI's API: ``/v1/chat/completions``, ``/v1/completions`` and ``/v1/models``.

The two POSTs are a bare ASGI callable, found by one dictionary look-up: every cycle spent here is taken from an
engine on the same machine. Everything else goes through Starlette. A request passes these stations, and the first
that refuses answers: key, body, admission, route, replica.

Bodies go to the engine as they came; of the client's headers none does. Answers come back byte for byte, with headers
that name the release, the variant and the node. Once a stream's status line is sent, whatever goes wrong is told by an
error event (``roadstead_gateway.stream``).
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import traceback
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Final

import aiohttp
import structlog
from starlette.types import Message, Receive, Scope, Send

from roadstead_gateway.admission import admit
from roadstead_gateway.apis.body import BodyReader, Head
from roadstead_gateway.apis.models import models_app
from roadstead_gateway.contract import REQUEST_ID_HEADER
from roadstead_gateway.deadlines import Deadlines
from roadstead_gateway.departure import PATIENCE_SECONDS, Departure
from roadstead_gateway.errors import (
    Refusal,
    engine_failed,
    engine_refusal,
    model_not_found,
    model_not_ready,
    refusal_of,
    stream_broken,
    unauthorized,
)
from roadstead_gateway.keys import KeyRing
from roadstead_gateway.routes import RouteTable
from roadstead_gateway.stream import EventScan, StreamBroken, tokens_in
from roadstead_gateway.tallies import CounterBook
from roadstead_gateway.upstream import Answer, Call, Upstream, read_bounded

log = structlog.stdlib.get_logger(__name__)

PROXIED: Final = frozenset({"/v1/chat/completions", "/v1/completions"})
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_PLAIN_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_REQUEST_ID: Final = REQUEST_ID_HEADER.encode()
_JSON: Final = (b"content-type", b"application/json")
_STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
_TAIL_SECONDS: Final = 1.0
"""How long the end of a finished stream's connection is waited for, so that it can be used again."""


class OpenAI:
    """The ASGI application clients talk to."""

    def __init__(
        self,
        *,
        table: RouteTable,
        book: CounterBook,
        upstream: Upstream,
        keys: Callable[[], KeyRing],
        replica_token: Callable[[], str],
        bodies: BodyReader,
    ) -> None:
        self._table = table
        self._book = book
        self._upstream = upstream
        self._keys = keys
        self._replica_token = replica_token
        self._bodies = bodies
        self._patience = Deadlines(PATIENCE_SECONDS)
        self._others = models_app(table)
        self._ids = (f"{boot}-{number:x}" for boot in [secrets.token_hex(6)] for number in itertools.count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} here")
        head = Head.of(scope["headers"])
        given = head.request_id
        request_id = given if given and _PLAIN_ID.fullmatch(given) else next(self._ids).encode()
        try:
            if not self._keys().knows(head.authorization):
                raise unauthorized()
            path = scope["path"]
            if path not in PROXIED:
                await self._others(scope, receive, _naming(send, request_id))
            elif scope["method"] != "POST":
                raise Refusal(405, "method_not_allowed", "Use POST here.")
            else:
                await self._proxy(path, head, request_id, receive, send)
        except Refusal as refusal:
            self._book.refuse(refusal.code)
            await _refuse(send, refusal, request_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, a client gets no stack trace
            last = traceback.extract_tb(error.__traceback__)[-1]
            # Type and place, not the words: those may quote what was being parsed.
            log.error("request_failed", error=type(error).__name__, at=f"{last.name}:{last.lineno}")  # noqa: TRY400
            await _refuse(send, Refusal(500, "internal_error", "The gateway failed."), request_id)

    async def _proxy(self, path: str, head: Head, request_id: bytes, receive: Receive, send: Send) -> None:
        began = perf_counter()
        body = await self._bodies.read(receive, head)
        if body is None:  # the client left while sending
            return
        wanted = admit(body)
        entry = self._table.find(wanted.model)
        if entry is None:
            raise model_not_found(wanted.model)
        if not entry.balancer.ready:
            raise model_not_ready()
        call = Call(path, body, request_id.decode(), self._replica_token())
        with Departure(receive, self._patience) as departure:
            try:
                answer = await self._upstream.begin(entry.balancer, call)
                await self._pass_on(answer, send, request_id, departure, began)
            except asyncio.CancelledError:
                if not departure.claims():
                    raise

    async def _pass_on(self, answer: Answer, send: Send, request_id: bytes, departure: Departure, began: float) -> None:
        """Whatever happens in here, the attempt ends."""
        response = answer.response
        headers = (*answer.backend.headers, (_REQUEST_ID, request_id))
        try:
            if response.status != 200:
                await self._refused_by_engine(answer, send, headers, departure)
            elif response.headers.get("Content-Type", "").startswith("text/event-stream"):
                await self._stream(answer, send, headers, departure, began)
            else:
                await self._unary(answer, send, headers, departure)
        except asyncio.CancelledError:
            answer.end("gone")
            raise
        finally:
            answer.end("internal", error=True)  # does nothing where the attempt has ended, i.e. but for a fault of ours

    async def _refused_by_engine(
        self, answer: Answer, send: Send, headers: Iterable[tuple[bytes, bytes]], departure: Departure
    ) -> None:
        status = answer.response.status
        payload = await read_bounded(answer) if answer.refused_with is None else answer.refused_with
        refusal = engine_refusal(status, payload)
        answer.end(str(status), error=refusal.status >= 500)
        if refusal.status >= 500:
            log.warning("engine_failed", slot=answer.backend.slot.name, status=status)
        self._book.refuse("engine_refused" if refusal.status < 500 else refusal.code)
        departure.stop()
        await _send_whole(send, refusal.status, [*refusal.headers(), *headers], refusal.body())

    async def _unary(
        self, answer: Answer, send: Send, headers: Iterable[tuple[bytes, bytes]], departure: Departure
    ) -> None:
        response = answer.response
        if (response.content_length or 0) > MAX_ANSWER_BYTES:
            answer.end("oversized", error=True)
            raise engine_failed()
        try:
            payload = await response.read()
        except (aiohttp.ClientError, TimeoutError):
            answer.end("broken", error=True)
            log.warning("answer_broken", slot=answer.backend.slot.name)
            raise engine_failed() from None
        answer.backend.counters.tokens += tokens_in(payload)
        answer.end("200")
        departure.stop()
        await _send_whole(send, 200, [_JSON, *headers], payload)

    async def _stream(
        self,
        answer: Answer,
        send: Send,
        headers: Iterable[tuple[bytes, bytes]],
        departure: Departure,
        began: float,
    ) -> None:
        scan = EventScan()
        counters = answer.backend.counters
        waiting = True
        await send({"type": "http.response.start", "status": 200, "headers": [*_STREAM_HEADERS, *headers]})
        try:
            async for chunk in answer.response.content.iter_any():
                events = scan.feed(chunk)
                if waiting and scan.events:
                    waiting = False
                    counters.saw_first_token(perf_counter() - began)
                if scan.over:
                    break
                if events:
                    await send({"type": "http.response.body", "body": events, "more_body": True})
            else:
                events = b""
        except (aiohttp.ClientError, TimeoutError, StreamBroken):
            events = b""
        counters.tokens += scan.tokens
        last = events if scan.whole else events + self._broken(answer, scan)
        departure.stop()
        await send({"type": "http.response.body", "body": last, "more_body": False})
        if scan.whole:
            await _read_tail(answer)
            answer.end("200")

    def _broken(self, answer: Answer, scan: EventScan) -> bytes:
        """The event that ends a stream which is not whole, and the attempt with it."""
        refusal = stream_broken()
        if scan.error is not None:
            code = scan.error.get("code")
            if isinstance(code, int) and 400 <= code < 500:
                refusal = refusal_of(scan.error, code)
        blame = refusal.status >= 500
        answer.end("broken" if blame else str(refusal.status), error=blame)
        self._book.refuse(refusal.code if blame else "engine_refused")
        if blame:
            log.warning("stream_broken", slot=answer.backend.slot.name, events=scan.events, done=scan.done)
        return refusal.event()


async def _read_tail(answer: Answer) -> None:
    """Let the connection come to its end after ``[DONE]``, so that it can be kept."""
    content = answer.response.content
    if content.at_eof():
        return
    try:
        async with asyncio.timeout(_TAIL_SECONDS):
            async for _ in content.iter_any():
                pass
    except (aiohttp.ClientError, TimeoutError):
        return


def _naming(send: Send, request_id: bytes) -> Send:
    """The same ``send``, which also names the request."""

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (_REQUEST_ID, request_id)]
        await send(message)

    return named


async def _refuse(send: Send, refusal: Refusal, request_id: bytes) -> None:
    await _send_whole(send, refusal.status, [*refusal.headers(), (_REQUEST_ID, request_id)], refusal.body())


async def _send_whole(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
