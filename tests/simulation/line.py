"""The line to a simulated door: it may fall silent, and comes back.

``HANGS`` is a machine whose power was cut: connections stand and nothing is said. ``CUTS`` is a process that died:
every connection ends at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum

from aiohttp import web


class Silence(StrEnum):
    HANGS = "hangs"
    CUTS = "cuts"


class Line:
    """Requests of one door pass through here."""

    def __init__(self) -> None:
        self.silence: Silence | None = None
        self._open: set[asyncio.Transport] = set()
        self._held: set[asyncio.Event] = set()

    @property
    def waited_at(self) -> bool:
        """Whether somebody who still is there waits for an answer: an operator that follows this door."""
        return any(not connection.is_closing() for connection in self._open)

    def fall_silent(self, how: Silence) -> None:
        """From now on nobody hears this door, whoever waits for it among them."""
        self.silence = how
        if how is Silence.CUTS:
            for connection in self._open:
                connection.abort()

    def speak(self) -> None:
        """It is back; connections from before are gone."""
        self.silence = None
        for held in self._held:
            held.set()

    async def through(
        self, request: web.Request, answer: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """The answer, if the door may be heard both before and after."""
        connection = request.transport
        if connection is None:
            return abort(request)
        self._open.add(connection)
        try:
            if self.silence is None:
                response = await answer()
                if self.silence is None:
                    return response
            if self.silence is Silence.HANGS:
                await self._wait()
        finally:
            self._open.discard(connection)
        return abort(request)

    async def _wait(self) -> None:
        held = asyncio.Event()
        self._held.add(held)
        try:
            await held.wait()
        finally:
            self._held.discard(held)


def abort(request: web.Request) -> web.StreamResponse:
    """End the connection without a word."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)  # nobody is there to read it
