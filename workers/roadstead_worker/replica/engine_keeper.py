"""Keeps one engine running: restarts it at once when it dies, then with backoff, and ends one that no longer answers.

Restarting here takes half a second, keeps the lease and fails no request that had not begun; through Serve's health
checks it takes half a minute (measured), and six failed replicas in a row when the old one still drains. Serve is
told only when restarting does not help: ``check`` raises once the engine has been away for ``PATIENCE_SECONDS``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import aiohttp
import structlog

from roadstead_worker.replica.engine_process import EngineProcess, EngineStartFailed

PATIENCE_SECONDS: Final = 60.0
STEADY_SECONDS: Final = 30.0
"""An engine that ran this long was all right: the next restart is again without delay."""
FIRST_STARTS: Final = 3
"""Starts of a new replica's engine that a signal may end (out of memory) before the replica fails."""
_LONGEST_BACKOFF_SECONDS: Final = 30.0
_SILENT_PROBES: Final = 3

log = structlog.get_logger(__name__)


class EngineAway(Exception):
    """The engine has been away for so long that Serve should replace the replica."""


def backoff_seconds(failures: int) -> float:
    """0, 0.5, 1, 2 … 30: delay before the start that follows that many quick failures in a row."""
    if failures <= 1:
        return 0.0
    return min(_LONGEST_BACKOFF_SECONDS, 0.5 * 2.0 ** min(failures - 2, 10))


class EngineKeeper:
    """Owns the engine of a replica. ``start_engine`` starts a healthy one or raises ``EngineStartFailed``."""

    def __init__(self, start_engine: Callable[[], Awaitable[EngineProcess]], *, slot: str) -> None:
        self._start_engine = start_engine
        self._slot = slot
        self._engine: EngineProcess | None = None
        self._watch: asyncio.Task[None] | None = None
        self._away_since: float | None = None
        self._reason = ""
        self._silent = 0

    @property
    def engine(self) -> EngineProcess | None:
        """The engine if it is there and healthy as far as is known."""
        return self._engine if self._engine is not None and self._engine.alive else None

    async def start(self) -> None:
        """The first start. Raises ``EngineStartFailed`` for a reason that will not go away."""
        for attempt in range(1, FIRST_STARTS + 1):
            try:
                self._engine = await self._start_engine()
                break
            except EngineStartFailed as failure:
                if not failure.killed or attempt == FIRST_STARTS:
                    raise
                log.warning("engine was killed while it loaded", slot=self._slot, reason=str(failure))
                await asyncio.sleep(backoff_seconds(attempt + 1))
        self._watch = asyncio.create_task(self._keep(), name=f"engine of {self._slot}")

    async def check(self, session: aiohttp.ClientSession) -> None:
        """For Serve's health check. Raises ``EngineAway``; ends an engine that has been silent several times."""
        engine = self.engine
        if engine is None:
            if self._away_since is not None and time.monotonic() - self._away_since > PATIENCE_SECONDS:
                raise EngineAway(f"The engine does not come back. {self._reason}")
            return
        if await engine.answers(session):
            self._silent = 0
            return
        self._silent += 1
        if self._silent >= _SILENT_PROBES:
            self._silent = 0
            log.error("engine is silent, ending it", slot=self._slot, pid=engine.pid)
            await engine.kill()

    async def stop(self) -> None:
        """End it; idempotent. Whatever it was doing must be over."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        if self._engine is not None:
            await self._engine.stop()

    async def _keep(self) -> None:
        failures = 0
        while True:
            engine = self._engine
            if engine is not None:
                code = await asyncio.shield(engine.exited)
                failures = 0 if time.monotonic() - engine.started_at > STEADY_SECONDS else failures
                self._away_since = time.monotonic()
                self._reason = f"It ended with {code}; its last lines:\n{engine.last_lines}"
                log.warning("engine ended, restarting it", slot=self._slot, code=code, last_lines=engine.last_lines)
            failures += 1
            await asyncio.sleep(backoff_seconds(failures))
            try:
                self._engine = await self._start_engine()
            except (EngineStartFailed, OSError) as failure:
                self._engine = None
                self._reason = str(failure)
                log.warning("engine does not start", slot=self._slot, failures=failures, reason=str(failure))
            else:
                log.info("engine is back", slot=self._slot, pid=self._engine.pid)
                self._away_since = None
