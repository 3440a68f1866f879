"""A client's headers and body, read once and within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from starlette.types import Receive

from roadstead_gateway.deadlines import Deadlines
from roadstead_gateway.errors import Refusal


@dataclass(slots=True)
class Head:
    """The few headers the gateway looks at; of two with one name the last counts, and none is passed on."""

    authorization: bytes = b""
    request_id: bytes = b""
    content_type: bytes = b""
    content_encoding: bytes = b""
    content_length: bytes = b""

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]]) -> Self:
        """Names are lower case, as ASGI has them."""
        head = cls()
        for name, value in headers:
            match name:
                case b"authorization":
                    head.authorization = value
                case b"content-length":
                    head.content_length = value
                case b"content-type":
                    head.content_type = value
                case b"content-encoding":
                    head.content_encoding = value
                case b"x-request-id":
                    head.request_id = value
                case _:
                    pass
        return head


class _Sending:
    """A client that has not sent its whole request yet."""

    __slots__ = ("_task", "late")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self.late = False

    def overdue(self) -> None:
        if self._task is not None:
            self.late = True
            self._task.cancel()

    def claims(self) -> bool:
        """Whether the cancellation just caught came from here; then it is over and done with."""
        if self.late and self._task is not None:
            self._task.uncancel()
        return self.late


class BodyReader:
    """Reads bodies of at most ``limit_bytes`` that arrive within ``seconds``."""

    def __init__(self, *, limit_bytes: int, seconds: float) -> None:
        self._limit_bytes = limit_bytes
        self._deadlines = Deadlines(seconds)

    async def read(self, receive: Receive, head: Head) -> bytes | None:
        """The whole body; None when the client left before its end. Compressed ones have no honest size."""
        if head.content_encoding not in {b"", b"identity"}:
            raise Refusal(415, "unsupported_encoding", "Send the body as it is, without Content-Encoding.")
        if head.content_type and not head.content_type.lower().startswith(b"application/json"):
            raise Refusal(415, "unsupported_media_type", "Send the body as `Content-Type: application/json`.")
        if head.content_length.isdigit() and int(head.content_length[:20]) > self._limit_bytes:
            raise self._too_large()
        sending = _Sending()
        self._deadlines.add(sending)
        try:
            return await self._collect(receive)
        except asyncio.CancelledError:
            if not sending.claims():
                raise
            seconds = self._deadlines.seconds
            raise Refusal(408, "request_timeout", f"The body did not arrive within {seconds:g} s.") from None
        finally:
            self._deadlines.discard(sending)

    async def _collect(self, receive: Receive) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > self._limit_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join((*parts, part)) if parts else part
            parts.append(part)

    def _too_large(self) -> Refusal:
        return Refusal(413, "request_too_large", f"The body may have at most {self._limit_bytes} bytes.")
