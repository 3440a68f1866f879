"""Starts the fleet's processes in the order of their dependencies, keeps them up, ends all of them.

One asyncio loop, one thread. The supervisor adopts orphans, so everything that ever came of a child stays its
descendant and can be ended. It keeps no promise about requests in flight: what it restarts was dead. It never decides
that a *ready* process is unwell; whoever depends on it notices, and a process that hangs is a defect of that process.

asyncio's own child watchers are not used: they would race with the reaping of adopted orphans for exit codes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from roadstead.embedded.home import Home
from roadstead.embedded.process_table import ProcessRow, all_rows, descendants, identify, send, session_members
from roadstead.embedded.processes import (
    Child,
    ProcessReport,
    ProcessSpec,
    ProcessState,
    adopt_orphans,
    spawn,
    start_levels,
    words_of_exit,
)
from roadstead.embedded.state import FleetPhase, FleetState, write_state

log = structlog.get_logger(__name__)

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
_STEADY_SECONDS = 60.0
"""Ready for so long, the next failure counts as a first one."""
_CHECK_SECONDS = 0.15
_SWEEP_SECONDS = 5.0

Companion = Callable[["Supervisor"], Awaitable[None]]
"""A task beside the processes that needs to know which of them are ready; it runs until it is cancelled."""


@dataclass(slots=True)
class _Keeper:
    """One spec with its task and what is known of it."""

    spec: ProcessSpec
    report: ProcessReport
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it was ready or done for the first time."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    child: Child | None = None
    task: asyncio.Task[None] | None = None


class Supervisor:
    """Runs until SIGTERM, SIGINT or `stop()`; then nothing that it started is left."""

    def __init__(
        self,
        home: Home,
        specs: tuple[ProcessSpec, ...],
        *,
        fingerprint: str = "",
        notes: tuple[str, ...] = (),
        companions: tuple[Companion, ...] = (),
    ) -> None:
        identity = identify(os.getpid())
        if identity is None:
            raise ProcessLookupError(os.getpid())
        self._home = home
        self._levels = start_levels(specs)
        self._keepers = {spec.name: _Keeper(spec, ProcessReport(name=spec.name)) for spec in specs}
        self._state = FleetState(supervisor=identity, fingerprint=fingerprint, notes=list(notes))
        self._companions = companions
        self._popen: dict[int, subprocess.Popen[bytes]] = {}
        self._exits: dict[int, asyncio.Future[int]] = {}
        self._stopping = asyncio.Event()

    def is_ready(self, name: str) -> bool:
        """Whether this process runs and was ready; False for a name that is not part of the fleet."""
        keeper = self._keepers.get(name)
        return keeper is not None and keeper.report.settled

    def stop(self) -> None:
        """Ask `run` to end everything and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Start everything, keep it up, and end it when asked."""
        adopt_orphans()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        self._publish()
        for keeper in self._keepers.values():
            keeper.task = asyncio.create_task(self._keep(keeper), name=keeper.spec.name)
        companions = [asyncio.create_task(self._accompany(companion)) for companion in self._companions]
        try:
            await self._stopping.wait()
        finally:
            for companion in companions:
                companion.cancel()
            await asyncio.gather(*companions, return_exceptions=True)
            await self._end_everything()

    # ── one process ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _keep(self, keeper: _Keeper) -> None:
        for name in keeper.spec.depends_on:
            if not await _first(self._keepers[name].settled, keeper.stop):
                self._report(keeper, ProcessState.STOPPED)
                return
        backoff = FIRST_BACKOFF_SECONDS
        while not keeper.stop.is_set():
            await self._until_let_go(keeper)
            if keeper.stop.is_set():
                break
            ready_at = await self._live_once(keeper)
            if keeper.stop.is_set() or keeper.report.state is ProcessState.DONE:
                break
            if ready_at is not None and time.monotonic() - ready_at > _STEADY_SECONDS:
                backoff = FIRST_BACKOFF_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff):
                    await keeper.stop.wait()
            backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)
            keeper.report.restarts += 1
        if keeper.report.state is not ProcessState.DONE:
            self._report(keeper, ProcessState.STOPPED)

    async def _until_let_go(self, keeper: _Keeper) -> None:
        """Return once no file holds the process down, or it is not wanted any more."""
        held = self._home.held / keeper.spec.name
        if not held.exists():
            return
        self._report(keeper, ProcessState.BACKOFF, f"held down: remove {held}")
        while held.exists() and not keeper.stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_SECONDS):
                    await keeper.stop.wait()

    async def _live_once(self, keeper: _Keeper) -> float | None:
        """From one start to the end of all that came of it; says when it was ready (monotonic), if it was."""
        spec = keeper.spec
        try:
            if spec.prepare is not None:
                spec.prepare()
            child = self._spawn(keeper)
        except OSError as error:
            keeper.report.failures += 1
            self._report(keeper, ProcessState.BACKOFF, f"could not be started: {error.strerror or error}")
            return None
        stopper = asyncio.create_task(self._stop_when_asked(keeper, child))
        try:
            ready_at = await self._until_ready(keeper, child)
            code = await child.exited
        finally:
            stopper.cancel()
            await asyncio.gather(stopper, return_exceptions=True)
        await self._end_session(child)
        keeper.child = None
        lived = time.time() - (keeper.report.started_at or time.time())
        if spec.one_shot and code == 0:
            self._report(keeper, ProcessState.DONE)
            keeper.settled.set()
        elif not keeper.stop.is_set():
            keeper.report.failures += 1
            detail = keeper.report.detail if ready_at is None and code < 0 else ""
            self._report(keeper, ProcessState.BACKOFF, f"{words_of_exit(code)} after {lived:.1f} s. {detail}".strip())
        return ready_at

    def _spawn(self, keeper: _Keeper) -> Child:
        process, identity = spawn(keeper.spec, log=self._home.log(keeper.spec.name), mark=self._home.identity)
        exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._popen[process.pid] = process
        self._exits[process.pid] = exited
        keeper.child = Child(keeper.spec, identity, exited)
        keeper.report.identity = identity
        keeper.report.started_at = time.time()
        self._report(keeper, ProcessState.STARTING)
        return keeper.child

    async def _until_ready(self, keeper: _Keeper, child: Child) -> float | None:
        spec = keeper.spec
        deadline = time.monotonic() + spec.ready_within_seconds
        reason: str | None = "it has not ended yet" if spec.one_shot else "it does not answer yet"
        while not child.exited.done() and not keeper.stop.is_set():
            if not spec.one_shot:
                reason = await spec.ready() if spec.ready is not None else None
            if reason is None:
                keeper.report.failures = 0
                self._report(keeper, ProcessState.READY)
                keeper.settled.set()
                return time.monotonic()
            keeper.report.detail = reason
            if time.monotonic() > deadline:
                keeper.report.detail = f"not ready after {spec.ready_within_seconds:.0f} s: {reason}"
                await self._end_child(child)
                break
            await asyncio.wait([child.exited], timeout=_CHECK_SECONDS)
        return None

    async def _stop_when_asked(self, keeper: _Keeper, child: Child) -> None:
        await keeper.stop.wait()
        await self._end_child(child)

    async def _end_child(self, child: Child) -> None:
        """The stop signal to the process itself, then SIGKILL to its session."""
        if not child.exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.identity.pid, child.spec.stop_signal)
            await asyncio.wait([child.exited], timeout=child.spec.stop_within_seconds)
        for row in session_members(child.identity, all_rows()):
            send(row, signal.SIGKILL)
        await child.exited

    async def _end_session(self, child: Child) -> None:
        """End what a dead process left: its session, and orphans that moved to a session of their own."""

        def find() -> list[ProcessRow]:
            rows = all_rows()
            living = {other.child.identity.pid for other in self._keepers.values() if other.child is not None}
            living.discard(child.identity.pid)
            orphans = [row for row in rows if row.parent == os.getpid() and row.pid not in living]
            strays = [row for row in orphans if row.session not in living]
            roots = [*session_members(child.identity, rows), *strays]
            return [*roots, *(below for root in roots for below in descendants(root.pid, rows))]

        await self._sweep(find)

    # ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _end_everything(self) -> None:
        self._state.phase = FleetPhase.STOPPING
        self._publish()
        for level in reversed(self._levels):
            keepers = [self._keepers[spec.name] for spec in level]
            for keeper in keepers:
                keeper.stop.set()
            await asyncio.gather(*(keeper.task for keeper in keepers if keeper.task), return_exceptions=True)
        await self._sweep(lambda: descendants(os.getpid(), all_rows()))
        self._state.phase = FleetPhase.STOPPED
        self._publish()

    async def _sweep(self, find: Callable[[], list[ProcessRow]]) -> None:
        """SIGKILL what `find` finds until it finds nothing (a process may fork while it is looked for)."""
        deadline = time.monotonic() + _SWEEP_SECONDS
        while rows := [row for row in find() if not row.zombie]:
            if time.monotonic() > deadline:
                log.error("processes do not end", pids=[row.pid for row in rows])
                return
            for row in rows:
                send(row, signal.SIGKILL)
            await asyncio.sleep(0.02)
            self._reap()

    async def _accompany(self, companion: Companion) -> None:
        while True:
            try:
                await companion(self)
            except Exception:
                log.exception("a companion task failed; it is started again")
            await asyncio.sleep(FIRST_BACKOFF_SECONDS)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            process = self._popen.pop(pid, None)
            if process is not None:
                process.returncode = code
            exited = self._exits.pop(pid, None)
            if exited is not None and not exited.done():
                exited.set_result(code)

    def _report(self, keeper: _Keeper, state: ProcessState, detail: str = "") -> None:
        keeper.report.state = state
        keeper.report.detail = detail
        keeper.report.since = time.time()
        log.info("process", name=keeper.spec.name, state=state.value, detail=detail)
        self._publish()

    def _publish(self) -> None:
        self._state.processes = [keeper.report for keeper in self._keepers.values()]
        try:
            write_state(self._home.state_file, self._state)
        except OSError as error:
            # A full disk must not end the fleet; `status` is old until there is room again.
            log.warning("state.json cannot be written", error=error.strerror)


async def _first(event: asyncio.Event, stop: asyncio.Event) -> bool:
    """Wait for either; True if it was `event` and nobody asked to stop."""
    waiters = [asyncio.create_task(event.wait()), asyncio.create_task(stop.wait())]
    try:
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
    return not stop.is_set()
