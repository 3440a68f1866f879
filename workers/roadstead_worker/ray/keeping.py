"""Life and end of a Ray node: started, watched, reaped, and ended for good within seconds.

Made to be process 1 of a container and as good below a supervisor. Three things make it more than ``exec ray start``:

* Nobody else reaps: Ray leaves zombies, and so does whatever its workers leave behind (PR_SET_CHILD_SUBREAPER makes
  this process their parent outside a container, too).
* A raylet with a replica that serves, and a head with its Serve controller, never end on SIGTERM (measured). All the
  waiting was done before, by the container's preStop: so Ray gets ``GRACE_SECONDS``, then everything below is killed.
* When ``ray start`` ends because one of its daemons did, what is left is ended, and the exit code tells the kubelet to
  start the container again.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import time
from contextlib import suppress
from typing import Final

import structlog

from roadstead_worker.process_tree import descendants
from roadstead_worker.ray.command import RayStart

GRACE_SECONDS: Final = 4.0
_SWEEP_SECONDS: Final = 10.0
_SWEEP_PAUSE_SECONDS: Final = 0.02
_PR_SET_CHILD_SUBREAPER: Final = 36

log = structlog.get_logger(__name__)


class RayKeeper:
    """Runs one ``ray start``. To be used from the process's only event loop: it reaps every child."""

    def __init__(self, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._grace_seconds = grace_seconds
        self._stop = asyncio.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def watch_signals(self) -> None:
        """SIGTERM and SIGINT end Ray; SIGCHLD reaps."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)

    @property
    def stopping(self) -> asyncio.Event:
        """Set once this process has been asked to end."""
        return self._stop

    async def run(self, start: RayStart) -> int:
        """From ``ray start`` to the end of all that came of it: 0 when asked to end, else 1."""
        if self._stop.is_set():
            return 0
        child = self._spawn(start)
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((stopped, self._exited), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if self._stop.is_set():
            log.info("ray is ended", seconds=self._grace_seconds)
            await self._terminate(child)
        else:
            log.error("ray ended", code=self._exited.result())
        await self._sweep()
        return 0 if self._stop.is_set() else 1

    def _spawn(self, start: RayStart) -> subprocess.Popen[bytes]:
        self._child = subprocess.Popen(start.command, env=os.environ | start.environment, stdin=subprocess.DEVNULL)
        return self._child

    async def _terminate(self, child: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        await asyncio.wait((self._exited,), timeout=self._grace_seconds)

    async def _sweep(self) -> None:
        """SIGKILL to everything below, until nothing is: a process may fork while it is looked for."""
        deadline = time.monotonic() + _SWEEP_SECONDS
        while left := descendants(os.getpid()):
            if time.monotonic() > deadline:
                log.error("processes do not end", pids=left)
                return
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(_SWEEP_PAUSE_SECONDS)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._child is not None and pid == self._child.pid:
                self._child.returncode = os.waitstatus_to_exitcode(status)
                self._exited.set_result(self._child.returncode)
