"""One request to a door: the bearer, the epoch, a deadline, and every failure as a :class:`DoorError`.

No redirects (the bearer would go along), no proxies from the environment, a bound on what an answer may weigh.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from roadstead.ports import DoorError, FencedError
from roadstead_worker.contract import EPOCH_HEADER, Problem

_CONNECT_SECONDS: Final = 3.0
_ANSWER_SECONDS: Final = 8.0
_BODY_LIMIT_BYTES: Final = 32 * 1024 * 1024
_READ_LIMIT: Final = 8192
_STALE_EPOCH: Final = "StaleEpoch"

S = TypeVar("S", bound=BaseModel)
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no refusal."""

    status: int
    body: bytes


class TokenFile:
    """The bearer, re-read when its file changes (a mounted Secret is swapped by rename)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._token = ""

    def read(self) -> str:
        """Raises ``OSError`` where there is no file, ``ValueError`` where it holds no token."""
        stat = self._path.stat()
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if seen != self._seen:
            self._token = self._path.read_text(encoding="ascii").strip()
            self._seen = seen
        if not self._token:
            raise ValueError(f"{self._path} is empty")
        return self._token


class DoorCaller:
    """Calls doors of one kind. Use as an async context.

    ``unavailable`` is the reason code for a door that does not answer or answers nonsense.
    """

    def __init__(self, *, token: TokenFile, epoch: Callable[[], int], unavailable: str) -> None:
        self._token = token
        self._epoch = epoch
        self._unavailable = unavailable
        self._session: aiohttp.ClientSession | None = None
        self._read: dict[str, tuple[bytes, object]] = {}
        """By url: the digest of the last answer, and what was made of it."""
        self.highest_epoch = 0
        """The highest that a refusal has told."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            trust_env=False, connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, url: str, *, seconds: float, params: Mapping[str, str] | None = None) -> Reply:
        """Read."""
        return await self._call("GET", url, seconds=seconds, params=params)

    async def read(
        self,
        url: str,
        shape: type[S],
        *,
        keep: Callable[[S], K],
        kept: type[K],
        seconds: float,
        params: Mapping[str, str] | None = None,
    ) -> K:
        """``get`` in its shape, and of that what ``keep`` makes of it: where doors are many, all words are much.

        A door that repeats itself is answered with the very object of the time before.
        """
        reply = await self.get(url, seconds=seconds, params=params)
        digest = blake2b(reply.body, digest_size=16).digest()
        before, known = self._read.get(url, (b"", None))
        if isinstance(known, kept) and before == digest:
            return known
        answer = keep(self.parsed(reply, shape))
        if len(self._read) >= _READ_LIMIT:
            self._read.clear()  # of doors that have moved; those that are there are read again
        self._read[url] = (digest, answer)
        return answer

    async def ask(self, url: str, body: BaseModel, *, seconds: float) -> Reply:
        """POST a question that changes nothing."""
        return await self._call("POST", url, seconds=seconds, body=body)

    async def put(self, url: str, body: BaseModel, *, seconds: float) -> Reply:
        """Change something, under the leader's epoch."""
        return await self._call("PUT", url, seconds=seconds, body=body, mutating=True)

    async def delete(self, url: str, *, seconds: float) -> None:
        """Remove something, under the leader's epoch; what is not there is removed."""
        await self._call("DELETE", url, seconds=seconds, mutating=True, absent=True)

    @asynccontextmanager
    async def stream(self, url: str, *, params: dict[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read an answer as it comes, for as long as the block lasts; only its beginning has a deadline."""
        if self._session is None:
            raise RuntimeError("a DoorCaller is used inside its async context")
        call = f"GET {url}"
        try:
            request = self._session.get(
                url,
                params=params,
                headers={"Authorization": f"Bearer {self._token.read()}"},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            )
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await request
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise DoorError(self._unavailable, f"{call}: {_words(error, _ANSWER_SECONDS)}") from error
        async with answer:
            if answer.status >= 300:
                raise self._refusal(answer.status, await self._reason(answer), call)
            yield self._blocks(answer, call)

    def parsed(self, reply: Reply, shape: type[S]) -> S:
        """The answer in its shape."""
        try:
            return shape.model_validate_json(reply.body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise DoorError(self._unavailable, f"answered no {shape.__name__}: {where} {first['msg']}") from None

    async def _call(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        params: Mapping[str, str] | None = None,
        body: BaseModel | None = None,
        mutating: bool = False,
        absent: bool = False,
    ) -> Reply:
        if self._session is None:
            raise RuntimeError("a DoorCaller is used inside its async context")
        try:
            headers = {"Authorization": f"Bearer {self._token.read()}"}
            if mutating:
                headers[EPOCH_HEADER] = str(self._epoch())
            if body is not None:
                headers["Content-Type"] = "application/json"
            async with self._session.request(
                method,
                url,
                params=params,
                data=None if body is None else body.model_dump_json().encode(),
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS),
            ) as answer:
                content = await self._content(answer)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise DoorError(self._unavailable, f"{method} {url}: {_words(error, seconds)}") from error
        if answer.status >= 300 and not (absent and answer.status == 404):
            raise self._refusal(answer.status, content, f"{method} {url}")
        return Reply(answer.status, content)

    async def _blocks(self, answer: aiohttp.ClientResponse, call: str) -> AsyncIterator[bytes]:
        try:
            async for block in answer.content.iter_any():
                yield block
        except (aiohttp.ClientError, OSError) as error:
            raise DoorError(self._unavailable, f"{call}: {_words(error, 0)}") from error

    async def _reason(self, answer: aiohttp.ClientResponse) -> bytes:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._content(answer)
        except (aiohttp.ClientError, OSError, ValueError):
            return b""

    async def _content(self, answer: aiohttp.ClientResponse) -> bytes:
        content = bytearray()
        async for chunk in answer.content.iter_any():
            content += chunk
            if len(content) > _BODY_LIMIT_BYTES:
                raise ValueError(f"the answer is larger than {_BODY_LIMIT_BYTES >> 20} MiB")
        return bytes(content)

    def _refusal(self, status: int, content: bytes, call: str) -> DoorError:
        try:
            problem = Problem.model_validate_json(content)
        except ValidationError:
            return DoorError(self._unavailable, f"{call}: HTTP {status} without a reason")
        if problem.code == _STALE_EPOCH:
            self.highest_epoch = max(self.highest_epoch, problem.epoch or 0)
            return FencedError(problem.message, epoch=problem.epoch or 0)
        return DoorError(problem.code, problem.message)


def _words(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:g} s"
    return str(error) or type(error).__name__
