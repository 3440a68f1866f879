"""A worker waits for its head, as long as that takes.

``ray start`` would fail, and its container would crash-loop with ever longer pauses: a head that came back would be
joined minutes late.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import structlog

_PAUSE_SECONDS: Final = 0.5
_CONNECT_SECONDS: Final = 5.0
_WORD_EVERY_SECONDS: Final = 15.0

log = structlog.get_logger(__name__)


async def head_answers(address: str, *, stopping: asyncio.Event) -> bool:
    """Whether somebody listens at ``host:port``, asked until it is so; False as soon as ``stopping`` is set."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    next_word = since
    while not stopping.is_set():
        reason = await _refusal(address)
        if reason is None:
            return True
        if loop.time() >= next_word:
            log.info("waiting for the head", address=address, seconds=round(loop.time() - since), reason=reason)
            next_word = loop.time() + _WORD_EVERY_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE_SECONDS):
                await stopping.wait()
    return False


async def _refusal(address: str) -> str | None:
    """Why nobody can be reached there; ``None`` when somebody can."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except TimeoutError:
        return f"no answer within {_CONNECT_SECONDS:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return None
