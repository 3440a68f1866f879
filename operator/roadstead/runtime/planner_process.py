"""Runs the pure planner in a process of its own, so that a long solve never costs the Lease its renewal.

The process is forked clean (``spawn``). It holds the last snapshot and which models were at rest in it, so that only
what changed travels and is planned; both can be had anew at any time. It is replaced when it dies; a plan that takes
longer than its time is given up and the previous state of the world stays until the next turn.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from datetime import datetime
from itertools import count
from multiprocessing import get_context
from types import TracebackType
from typing import Self, TypeVar, TypeVarTuple, Unpack

import structlog

from roadstead.domain.explanation import Explanation, Fit, NoSuchModel
from roadstead.domain.model import ModelKey
from roadstead.domain.plan import FleetPlan, ModelReport
from roadstead.domain.snapshot import Answers, FleetSnapshot, answered
from roadstead.domain.supposition import Consequences, NoSuchNode, Supposition
from roadstead.planner.explain import explain, explain_fit
from roadstead.planner.fleet import plan
from roadstead.planner.rest import Rest
from roadstead.planner.what_if import what_if
from roadstead.runtime.allocator import give_freed_memory_back
from roadstead.runtime.collector import look_at_no_fleet_twice
from roadstead.runtime.snapshot_changes import Changes, applied, changes

_PR_SET_PDEATHSIG = 1

Q = TypeVar("Q")
R = TypeVar("R")
Arguments = TypeVarTuple("Arguments")

log = structlog.get_logger(__name__)


class PlannerProcess:
    """An async ``plan``. Use as a context manager; leaving it ends the process."""

    def __init__(self, *, timeout_seconds: float = 60.0) -> None:
        self._timeout_seconds = timeout_seconds
        self._numbers = count(1)
        self._one_at_a_time = asyncio.Lock()
        self._pool = _new_pool()
        self._forget()

    def _forget(self) -> None:
        """Count on nothing that the process may know."""
        self._sent: FleetSnapshot | None = None
        self._number = 0
        self._told: dict[str, ModelReport] = {}

    async def __call__(self, snapshot: FleetSnapshot, now: datetime) -> FleetPlan:
        """The plan; ``TimeoutError`` if it takes too long, ``BrokenProcessPool`` if the process died."""
        async with self._one_at_a_time:
            return await self._planned(snapshot, now)

    async def what_if(
        self, snapshot: FleetSnapshot, now: datetime, supposition: Supposition, answers: Answers
    ) -> Consequences:
        """What would become of the models; errors as of a plan, and ``NoSuchNode``.

        ``answers`` are what agents said beside what is in the snapshot, here as in what follows.
        """
        return await self._asked(what_if, snapshot, now, supposition, answers)

    async def explain(self, snapshot: FleetSnapshot, now: datetime, key: ModelKey, answers: Answers) -> Explanation:
        """Why a model runs where it runs; errors as of a plan, and ``NoSuchModel``."""
        return await self._asked(explain, snapshot, now, key, answers)

    async def fit(self, snapshot: FleetSnapshot, now: datetime, fit: Fit, answers: Answers) -> Explanation:
        """Where a model could run; errors as of a plan."""
        return await self._asked(explain_fit, snapshot, now, fit, answers)

    async def _asked(
        self,
        reason: Callable[[FleetSnapshot, datetime, Q, Rest], R],
        snapshot: FleetSnapshot,
        now: datetime,
        question: Q,
        answers: Answers,
    ) -> R:
        async with self._one_at_a_time:
            await self._planned(snapshot, now)  # so that the process has the picture, and remembers who rests
            return await self._run(_reason, self._number, reason, now, question, answers)

    async def _planned(self, snapshot: FleetSnapshot, now: datetime) -> FleetPlan:
        delta, number = changes(self._sent, snapshot), next(self._numbers)
        planned, models = await self._run(_plan, self._number, number, delta, now)
        self._sent, self._number = snapshot, number
        told = self._told | {report.model.uid: report for report in planned.reports}
        self._told = {uid: told[uid] for uid in models}
        return replace(planned, reports=tuple(self._told.values()))

    async def _run(self, work: Callable[[Unpack[Arguments]], R], *arguments: *Arguments) -> R:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        except (NoSuchModel, NoSuchNode):
            raise  # the process is as it was
        except BaseException as error:
            self._forget()  # whether the changes arrived is not known
            if isinstance(error, BrokenProcessPool | TimeoutError):
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
    return ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"), initializer=_prepare)


class _Held:
    """What the planner's process remembers."""

    number = 0
    snapshot: FleetSnapshot | None = None
    rest = Rest()
    told: Mapping[str, ModelReport] = {}
    """Reports that were sent back, by uid."""


def _plan(base: int, number: int, delta: Changes, now: datetime) -> tuple[FleetPlan, tuple[str, ...]]:
    """In the planner's process: the plan with those reports that were not sent before, and the uids of all.

    ``base`` is the number of the snapshot from which the changes start; 0 is none.
    """
    if base != _Held.number:
        _Held.snapshot, _Held.rest, _Held.told = None, Rest(), {}
    _Held.number = -1  # until the answer is on its way
    _Held.snapshot = applied(_Held.snapshot, delta)
    planned = plan(_Held.snapshot, now, _Held.rest)
    before, _Held.told = _Held.told, {report.model.uid: report for report in planned.reports}
    _Held.number = number
    new = tuple(report for report in planned.reports if before.get(report.model.uid) is not report)
    return replace(planned, reports=new), tuple(_Held.told)


def _reason(
    number: int, reason: Callable[[FleetSnapshot, datetime, Q, Rest], R], now: datetime, question: Q, answers: Answers
) -> R:
    """In the planner's process, about the snapshot that it holds; it remembers nothing of it."""
    if number != _Held.number or _Held.snapshot is None:
        raise RuntimeError("the planner's process holds another snapshot")
    return reason(answered(_Held.snapshot, answers), now, question, _Held.rest)


def _prepare() -> None:
    """A killed operator leaves no planner behind: it holds both ends of its own queue and would wait for ever."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    look_at_no_fleet_twice()
    give_freed_memory_back()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's ^C is the parent's to handle
