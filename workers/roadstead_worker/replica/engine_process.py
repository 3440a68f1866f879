"""One engine as a child process: started bound and scrubbed, watched, ended in order.

It is started in a process group of its own through ``engine_launcher`` (see there for what binds it), with an
environment built from an allow-list, so that Ray's token and the replica's own variables stay out of it, sees the
accelerators of its group whatever the replica itself sees, and inherits one descriptor: the lease file's, whose lock
therefore lives exactly as long as anything that can hold the memory.

Not done here: restarting (``engine_keeper``), draining (``slot``: llama.cpp cuts streams at SIGTERM, so it must be
idle before). Must be used from one event loop, whose thread outlives the engine.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import aiohttp

from roadstead_worker.engines.base import ENGINE_KEY_VARIABLE, Engine, EngineSpec
from roadstead_worker.engines.visible_devices import visible
from roadstead_worker.replica import engine_launcher
from roadstead_worker.replica.engine_log import EngineLog

KEPT_VARIABLES: Final = frozenset({
    "LANG", "LC_ALL", "LD_LIBRARY_PATH", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_VISIBLE_DEVICES", "PATH", "TZ",
})  # fmt: skip
"""All that an engine sees of the replica's environment."""
_HEALTH_POLL_SECONDS: Final = 0.05
_PROBE_SECONDS: Final = 5.0
_TERMINATION_SECONDS: Final = 5.0
_PART_NUMBER: Final = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf$)")


class EngineStartFailed(Exception):
    """The engine did not come up; the message ends with its own last lines."""

    def __init__(self, message: str, *, killed: bool = False) -> None:
        super().__init__(message)
        self.killed = killed
        """A signal ended it (out of memory, most often): trying again may help. Otherwise it will not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRun:
    """Everything one start of the engine needs."""

    engine: Engine
    spec: EngineSpec
    key: str
    """Secret that the engine demands of callers."""
    log: Path
    scratch: Path
    """The engine's own temporary folder."""
    lease_descriptor: int
    start_seconds: float = 1_800.0
    """How long loading may take: a large model from a slow disk."""
    confined: bool = True
    """Landlock, where the kernel has it."""


class EngineProcess:
    """A started engine. ``exited`` resolves to its return code (negative: the signal that ended it)."""

    def __init__(self, run: EngineRun) -> None:
        loop = asyncio.get_running_loop()
        self._run = run
        self._address: asyncio.Future[str] = loop.create_future()
        self._complaint: str | None = None
        self._log = EngineLog(run.log, self._read)
        self.exited: asyncio.Future[int] = loop.create_future()
        self.started_at = time.monotonic()
        self._child = _spawn(run)
        self._descriptor = os.pidfd_open(self._child.pid)
        loop.add_reader(self._descriptor, self._reap)

    @classmethod
    async def start(cls, run: EngineRun, session: aiohttp.ClientSession) -> Self:
        """A healthy engine. Raises ``EngineStartFailed``; whatever happens, no unhealthy child is left behind."""
        shutil.rmtree(run.scratch, ignore_errors=True)  # of an engine that was killed
        for folder in (run.log.parent, run.scratch):
            folder.mkdir(parents=True, exist_ok=True)
        process = cls(run)
        try:
            await process._read_output()
            async with asyncio.timeout(run.start_seconds):
                await process._until_healthy(session)
        except TimeoutError:
            reason = (
                f"The engine was not healthy after {run.start_seconds:.0f} s. Its last lines:\n{process.last_lines}"
            )
            await process.kill()
            raise EngineStartFailed(reason) from None
        except BaseException:
            await process.kill()
            raise
        return process

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return not self.exited.done()

    @property
    def address(self) -> str:
        """Base address of its HTTP server; valid once ``start`` returned."""
        return self._address.result()

    @property
    def last_lines(self) -> str:
        return self._log.last_lines

    async def answers(self, session: aiohttp.ClientSession) -> bool:
        """Whether it says that it is healthy, within a few seconds."""
        timeout = aiohttp.ClientTimeout(total=_PROBE_SECONDS)
        try:
            async with session.get(self.address + self._run.engine.health_path, timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL for the whole group. It must have been drained before."""
        self._signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(_TERMINATION_SECONDS):
                await asyncio.shield(self.exited)
        await self.kill()

    async def kill(self) -> None:
        self._signal(signal.SIGKILL)
        await asyncio.shield(self.exited)

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)

    async def _read_output(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: self._log, self._child.stdout)

    def _read(self, line: str) -> None:
        self._complaint = self._complaint or self._run.engine.complaint_in(line)
        if not self._address.done() and (address := self._run.engine.address_in(line)):
            self._address.set_result(address)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)  # what the engine itself started
        self.exited.set_result(self._child.wait())

    async def _until_healthy(self, session: aiohttp.ClientSession) -> None:
        await asyncio.wait((self._address, self.exited), return_when=asyncio.FIRST_COMPLETED)
        while self.alive:
            if await self.answers(session):
                return
            await asyncio.sleep(_HEALTH_POLL_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.shield(self._log.ended)  # its last words may still be in the pipe
        code = self.exited.result()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with return code {code}"
        why = f": {self._complaint}" if self._complaint else ""
        raise EngineStartFailed(
            f"The engine {how} before it was healthy{why}. Its last lines:\n{self.last_lines}", killed=code < 0
        )


def _spawn(run: EngineRun) -> subprocess.Popen[bytes]:
    command = run.engine.command(run.spec)
    environment = {name: value for name, value in os.environ.items() if name in KEPT_VARIABLES}
    environment |= command.environment | {ENGINE_KEY_VARIABLE: run.key}
    environment |= visible(run.spec.devices)
    environment |= {"HOME": str(run.scratch), "TMPDIR": str(run.scratch)}
    launcher = [sys.executable, "-I", "-S", engine_launcher.__file__, "--parent", str(os.getpid())]
    if run.confined:
        launcher += ["--confine", "--writable", str(run.scratch)]
        for path in _readable(run):
            launcher += ["--readable", path]
    return subprocess.Popen(
        [*launcher, "--", *command.argv],
        env=environment,
        cwd=run.scratch,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=(run.lease_descriptor,),
    )


def _readable(run: EngineRun) -> set[str]:
    """The model's own files (not the store around them), the program, and what a Python engine imports."""
    model = run.spec.model
    parts = model.parent.glob(_PART_NUMBER.sub("-*-of-*", model.name)) if _PART_NUMBER.search(model.name) else (model,)
    files = {str(path) for part in parts for path in (part, part.resolve())}
    program = Path(run.engine.command(run.spec).argv[0]).resolve()
    packages = (sys.prefix, sys.base_prefix, str(Path(engine_launcher.__file__).parents[2]))
    return {*files, str(program.parent), *packages}
