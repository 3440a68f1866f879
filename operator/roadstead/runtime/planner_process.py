"""Runs the pure planner in a process of its own, so that a long solve never costs the Lease its renewal.

The process is forked clean (``spawn``), holds no state, and is replaced when it dies; a plan that takes longer than its
time is given up and the previous state of the world stays until the next turn.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime
from multiprocessing import get_context
from types import TracebackType
from typing import Self

import structlog

from roadstead.domain.plan import FleetPlan
from roadstead.domain.snapshot import FleetSnapshot
from roadstead.planner.fleet import plan

_PR_SET_PDEATHSIG = 1

log = structlog.get_logger(__name__)


class PlannerProcess:
    """An async ``plan``. Use as a context manager; leaving it ends the process."""

    def __init__(self, *, timeout_seconds: float = 60.0) -> None:
        self._timeout_seconds = timeout_seconds
        self._pool = _new_pool()

    async def __call__(self, snapshot: FleetSnapshot, now: datetime) -> FleetPlan:
        """The plan; ``TimeoutError`` if it takes too long, ``BrokenProcessPool`` if the process died."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await loop.run_in_executor(self._pool, plan, snapshot, now)
        except (BrokenProcessPool, TimeoutError):
            log.exception("planner.replaced")
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = _new_pool()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _new_pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"), initializer=_end_with_the_parent)


def _end_with_the_parent() -> None:
    """A killed operator leaves no planner behind: it holds both ends of its own queue and would wait for ever."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's ^C is the parent's to handle
