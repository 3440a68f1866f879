"""How a bench asks engines: a connection for each request, for they close idle ones just when those are used again."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

_SECONDS = 120.0


def asking(*, headers: Mapping[str, str] | None = None) -> aiohttp.ClientSession:
    """A session whose requests share no connection."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        timeout=aiohttp.ClientTimeout(total=_SECONDS),
        headers=headers,
    )
