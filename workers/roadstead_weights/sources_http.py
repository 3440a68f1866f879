"""Reading a file behind HTTP: a prefix of it, or the rest of it from an offset.

Redirects are followed here, not by the client, because each hop must be allowed. Bodies are asked for unencoded: bytes
on the wire must be the bytes of the file, or ranges and digests mean nothing. Failures are told apart by who can help:
``SourceNotFound``, ``SourceUnauthorized``, or ``SourceUnavailable`` (worth a retry).
"""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from roadstead_weights.errors import WeightsCode, WeightsError
from roadstead_weights.sources import HttpSource, SourcePolicy, is_own_address, redirected

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REDIRECTS_LIMIT: Final = 5
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """How patient a reader is."""

    connect_seconds: float = 10.0
    """Until the connection stands."""
    stall_seconds: float = 30.0
    """Longest silence of a server in the middle of an answer."""
    attempts: int = 5
    """Attempts in a row that bring nothing before a fetch fails."""
    backoff_seconds: float = 0.5
    """Pause after the first failed attempt; doubles up to half a minute."""


class RangeRefused(WeightsError):
    """The server has no such part (416): the file is shorter than what was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFile:
    """What the server says of the file."""

    total: int
    etag: str
    """A strong validator, or empty."""
    modified: str
    """``Last-Modified``, or empty."""

    @property
    def identity(self) -> str:
        """Changes when the file may have changed, as far as the server tells."""
        return f"{self.etag or self.modified}:{self.total}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """A body that begins at ``offset`` of the file."""

    about: HttpFile
    offset: int
    body: aiohttp.StreamReader


class GuardedResolver(AbstractResolver):
    """Resolves names, and refuses one that leads to the node itself or its link unless the policy names it.

    The addresses that are looked at here are those that are connected to, so an answer that changes in between (DNS
    rebinding) gains nothing. Addresses written as such never come here; ``SourcePolicy`` looks at them.
    """

    def __init__(self, policy: SourcePolicy) -> None:
        self._policy = policy
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if not self._policy.names(host, port) and any(is_own_address(each["host"]) for each in found):
            raise WeightsError(
                WeightsCode.SOURCE_NOT_ALLOWED,
                f"{host} is a name of the node itself or of its link; this node does not fetch from there.",
                host,
            )
        return found

    async def close(self) -> None:
        await self._resolver.close()


class HttpReader:
    """Reads over one client session; use as an async context manager, on one event loop."""

    def __init__(self, policy: SourcePolicy, limits: HttpLimits) -> None:
        self._policy = policy
        self.limits = limits
        timeout = aiohttp.ClientTimeout(
            total=None,
            connect=limits.connect_seconds,
            sock_connect=limits.connect_seconds,
            sock_read=limits.stall_seconds,
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=GuardedResolver(policy)),
            timeout=timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "roadstead-agent"},
        )

    async def close(self) -> None:
        await self._session.close()

    async def prefix(self, source: HttpSource, size: int, *, known: bytes = b"") -> tuple[HttpFile, bytes]:
        """The first ``size`` bytes (fewer if the file is shorter), of which ``known`` are here already.

        Reads no further where ranges are not supported.
        """
        async with self.open(source, begin=len(known), end=size) as answer:
            if answer.offset not in {0, len(known)}:
                raise _unavailable(source, "answers with another part of the file than it was asked for")
            have = known[: answer.offset]
            wanted = max(0, min(size, answer.about.total) - len(have))
            try:
                return answer.about, have + await answer.body.readexactly(wanted)
            except EOFError:
                raise _unavailable(source, "closed the connection early") from None

    @asynccontextmanager
    async def open(
        self, source: HttpSource, *, begin: int = 0, end: int | None = None, validator: str = ""
    ) -> AsyncIterator[HttpAnswer]:
        """The file from ``begin`` (to ``end``), or from 0 if the server would not: look at ``offset``.

        With a ``validator`` (strong ETag) a server sends the whole file when it has changed. Raises ``WeightsError``
        both when opening and, for failures of the connection, from inside the body.
        """
        headers = {}
        if begin or end is not None:
            headers["Range"] = f"bytes={begin}-{'' if end is None else end - 1}"
        if begin and validator:
            headers["If-Range"] = validator
        try:
            response = await self._get(source, headers)
            try:
                yield _answer(source, response)
            finally:
                response.close()
        except aiohttp.ClientPayloadError:
            raise _unavailable(source, "closed the connection early") from None
        except TimeoutError:
            raise _unavailable(source, f"was silent for {self.limits.stall_seconds:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _unavailable(source, f"cannot be reached ({type(error).__name__})") from None

    async def _get(self, source: HttpSource, headers: dict[str, str]) -> aiohttp.ClientResponse:
        hop = source
        for _ in range(_REDIRECTS_LIMIT):
            self._policy.allow_host(hop)
            response = await self._session.get(URL(hop.uri, encoded=True), headers=headers, allow_redirects=False)
            if response.status not in _REDIRECTS:
                return response
            location = response.headers.get("Location", "")
            response.close()
            hop = redirected(hop, location)
        raise _unavailable(source, f"redirects more than {_REDIRECTS_LIMIT} times")


def _answer(source: HttpSource, response: aiohttp.ClientResponse) -> HttpAnswer:
    _refuse_status(source, response.status)
    headers = response.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _unavailable(source, "sends the file compressed although it was asked not to")
    offset, total = 0, response.content_length
    if response.status == 206:
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        if match is None:
            raise _unavailable(source, "sends a part without saying which")
        offset, total = int(match.group(1)), int(match.group(3))
    if total is None:
        raise _unavailable(source, "does not say how long the file is")
    etag = headers.get("ETag", "")
    about = HttpFile(
        total=total, etag="" if etag.startswith("W/") else etag[:200], modified=headers.get("Last-Modified", "")[:64]
    )
    return HttpAnswer(about=about, offset=offset, body=response.content)


def _refuse_status(source: HttpSource, status: int) -> None:
    match status:
        case 200 | 206:
            return
        case 401 | 403 | 407:
            raise WeightsError(
                WeightsCode.SOURCE_UNAUTHORIZED,
                f"{source.label} refused this node ({status}): the source needs credentials, which this version does "
                "not send. Use a source that is open to the node.",
                source.host,
            )
        case 404 | 410:
            raise WeightsError(WeightsCode.SOURCE_NOT_FOUND, f"There is no {source.label} ({status}).", source.label)
        case 416:
            raise RangeRefused(
                WeightsCode.SOURCE_UNAVAILABLE, f"{source.label} became shorter; it will be tried again.", source.host
            )
        case _:
            raise _unavailable(source, f"answered {status}")


def _unavailable(source: HttpSource, what: str) -> WeightsError:
    return WeightsError(WeightsCode.SOURCE_UNAVAILABLE, f"{source.label} {what}; it will be tried again.", source.host)
