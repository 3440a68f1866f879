"""Asks a process whether it serves yet. No check raises or takes longer than a few seconds; each says why not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import aiohttp

from roadstead.embedded.processes import ReadyCheck

_TIMEOUT = aiohttp.ClientTimeout(total=3.0)


def answers(
    url: str, *, tls: ssl.SSLContext | None = None, headers: Mapping[str, str] | None = None, below: int = 400
) -> ReadyCheck:
    """Ready once a GET of `url` answers with a status below `below` (500: any answer of its own counts)."""

    async def check() -> str | None:
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.get(url, ssl=tls if tls is not None else True, headers=headers) as response,
            ):
                return None if response.status < below else f"{url} answers {response.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return f"{url} does not answer ({type(error).__name__})"

    return check


def accepts(host: str, port: int) -> ReadyCheck:
    """Ready once a TCP connection is taken."""

    async def check() -> str | None:
        try:
            async with asyncio.timeout(3.0):
                _, writer = await asyncio.open_connection(host, port)
        except (TimeoutError, OSError):
            return f"{host}:{port} takes no connection"
        writer.close()
        return None

    return check


def unverified_tls() -> ssl.SSLContext:
    """For a health door with a certificate of its own making, on a port that only we chose."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
