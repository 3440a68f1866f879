"""A client's headers and body, read once and within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from starlette.types import Receive

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


@dataclass(frozen=True, slots=True)
class BodyLimits:
    bytes: int
    seconds: float
    """For the whole body to arrive."""


async def read_body(receive: Receive, head: Head, limits: BodyLimits) -> bytes | None:
    """The whole body; None when the client left before its end. Compressed ones have no honest size."""
    if head.content_encoding not in {b"", b"identity"}:
        raise Refusal(415, "unsupported_encoding", "Send the body as it is, without Content-Encoding.")
    if head.content_type and not head.content_type.lower().startswith(b"application/json"):
        raise Refusal(415, "unsupported_media_type", "Send the body as `Content-Type: application/json`.")
    if head.content_length.isdigit() and int(head.content_length[:20]) > limits.bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.seconds):
            return await _collect(receive, limits)
    except TimeoutError:
        raise Refusal(408, "request_timeout", f"The body did not arrive within {limits.seconds:g} s.") from None


async def _collect(receive: Receive, limits: BodyLimits) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limits.bytes:
            raise _too_large(limits)
        if not message.get("more_body"):
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


def _too_large(limits: BodyLimits) -> Refusal:
    return Refusal(413, "request_too_large", f"The body may have at most {limits.bytes} bytes.")
