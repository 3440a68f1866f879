"""Sends one request to one replica after another until one begins to answer.

What is tried again, always before the first byte of an answer and never after:

- a connection that was not taken, 503 (an engine not ready, a full queue) and Ray's 404 ``Path ... not found`` (a
  replica that is just going): at another address. Where they fail for full queues, the client is told so: more replicas
  help there, and nothing is broken;
- a connection that was cut before the first byte: once, on a fresh connection. llama.cpp's server and proxies hang up
  kept-alive connections, so the cut most likely hit before anything was read. Only once, because a request that kills
  an engine must not be carried to every replica.

A replica that is merely slow is waited for: a second engine at work on the same request would help nobody.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Self

import aiohttp
import structlog
from multidict import CIMultiDict

from roadstead_gateway.balance import Backend, Balancer
from roadstead_gateway.contract import REPLICA_HEADER, REQUEST_ID_HEADER
from roadstead_gateway.errors import engine_failed, engine_too_slow, model_not_ready, model_overloaded

log = structlog.stdlib.get_logger(__name__)

MAX_ADDRESSES: Final = 4
"""Addresses tried for one request: enough to pass a node that has just died, few enough to answer soon."""
SUSPECT_SECONDS: Final = 2.0
"""An address that failed is chosen last for so long; after that one request finds out."""
MAX_ERROR_BYTES: Final = 64 * 1024
_FULL: Final = "full"
"""Told of an attempt at a replica whose queue is full."""
_NO_SUCH_PATH: Final = b"Path "
_QUEUE_FULL: Final = b"Request dropped due to backpressure"
"""How the plain texts begin that Ray answers in a replica's place, with 404 and 503 (``tests/ray``)."""
_PLAIN: Final = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # answers pass unread, so they must not be packed
    "Content-Type": "application/json",
    "User-Agent": "roadstead-gateway",
}
"""Sent with every attempt; all that aiohttp would add by itself is named here."""


@dataclass(frozen=True, slots=True)
class Call:
    """What every attempt sends."""

    path: str
    body: bytes
    request_id: str
    replica_token: str


class Answer:
    """A replica that has begun to answer. Whoever gets it must ``end`` it exactly once."""

    __slots__ = ("_ended", "backend", "refused_with", "response")

    def __init__(self, backend: Backend, response: aiohttp.ClientResponse) -> None:
        self.backend = backend
        self.response = response
        self.refused_with: bytes | None = None
        """The body, where it had to be read to know what the answer is."""
        self._ended = False

    def end(self, code: str, *, error: bool = False) -> None:
        """Give the connection back, or close it where the answer was not read to its end. Later calls do nothing."""
        if self._ended:
            return
        self._ended = True
        # Not `release`: on an answer that is not at its end that closes too, but only this says so.
        if self.response.content.at_eof():
            self.response.release()
        else:
            self.response.close()
        self.backend.counters.end(self.backend.load, code, error=error)


class _TryAnother(Exception):
    """This address could not begin to answer."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Cut(Exception):
    """The connection was closed before the first byte."""


class Upstream:
    """The connections to all replicas."""

    def __init__(self, *, connect_seconds: float, silence_seconds: float) -> None:
        self._timeout = aiohttp.ClientTimeout(sock_connect=connect_seconds, sock_read=silence_seconds)
        self._kept: aiohttp.ClientSession
        self._fresh: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._kept = self._session(aiohttp.TCPConnector(limit=0, ttl_dns_cache=30, keepalive_timeout=30))
        self._fresh = self._session(aiohttp.TCPConnector(limit=0, ttl_dns_cache=30, force_close=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._kept.close()
        await self._fresh.close()

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # no proxy of the environment between us and a replica: it would see the secret
        )

    async def begin(self, balancer: Balancer, call: Call) -> Answer:
        """The first answer that is worth passing on, an error of the engine's included; raises a ``Refusal``."""
        clock = asyncio.get_running_loop().time
        headers = CIMultiDict({**_PLAIN, REPLICA_HEADER: call.replica_token, REQUEST_ID_HEADER: call.request_id})
        tried: set[str] = set()
        full = False
        again: Backend | None = None
        fresh = False
        while len(tried) < MAX_ADDRESSES:
            backend = again or balancer.choose(clock(), tried)
            if backend is None:
                break
            try:
                return await self._attempt(backend, call, headers, fresh=fresh)
            except _Cut:
                log.warning("attempt_cut", slot=backend.slot.name, fresh=fresh, request_id=call.request_id)
                if fresh:
                    raise engine_failed() from None
                again, fresh = backend, True
            except _TryAnother as failure:
                log.warning("attempt_failed", slot=backend.slot.name, code=failure.code, request_id=call.request_id)
                tried.add(backend.address)
                full = full or failure.code == _FULL
                backend.load.suspect_until = clock() + SUSPECT_SECONDS
                again = None
        raise model_overloaded() if full else model_not_ready()

    async def _attempt(self, backend: Backend, call: Call, headers: CIMultiDict[str], *, fresh: bool) -> Answer:
        """One request to one address. Whatever happens, the attempt is counted once."""
        counters, load = backend.counters, backend.load
        session = self._fresh if fresh else self._kept
        counters.begin(load)
        try:
            response = await session.post(
                backend.url(call.path), data=call.body, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            counters.end(load, "connect", error=True)
            raise _TryAnother("connect") from None
        except aiohttp.ServerTimeoutError:
            counters.end(load, "timeout", error=True)
            raise engine_too_slow() from None
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # On a kept connection this is how keep-alive ends, not a fault of the slot.
            counters.end(load, "cut", error=fresh)
            raise _Cut from None
        except aiohttp.ClientError:
            counters.end(load, "protocol", error=True)
            raise engine_failed() from None
        except BaseException:
            counters.end(load, "gone")
            raise
        answer = Answer(backend, response)
        if response.status in {404, 503}:
            await self._pass_over(answer)
        return answer

    async def _pass_over(self, answer: Answer) -> None:
        """Try another address after 503 and Ray's own 404; an engine's 404 is the answer."""
        status = answer.response.status
        if status == 404 or answer.response.content_type == "text/plain":
            said = await read_bounded(answer)
            if status == 503 and said.startswith(_QUEUE_FULL):
                answer.end(_FULL)
                raise _TryAnother(_FULL)
            if status == 404 and not said.startswith(_NO_SUCH_PATH):
                answer.refused_with = said
                return
        answer.end(str(status), error=True)
        raise _TryAnother(str(status))


async def read_bounded(answer: Answer) -> bytes:
    """The body of an error answer, as far as it is sensible; ends the attempt if it breaks off."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in answer.response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > MAX_ERROR_BYTES:
                break
    except (aiohttp.ClientError, TimeoutError):
        answer.end("broken", error=True)
        raise engine_failed() from None
    except BaseException:
        answer.end("gone")
        raise
    return b"".join(parts)
