"""What a process of the fleet is, and the life of one: spawned, ready, ended with all that came of it.

Each runs in a session of its own, so that what a killed raylet leaves behind can still be told from the rest, and dies
with the supervisor if that is killed (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel

from roadstead.embedded.process_table import ProcessIdentity, identify

ReadyCheck = Callable[[], Awaitable[str | None]]
"""None once the process serves, else words for what is not there yet. Must not raise, must end within seconds."""

FLEET_MARK = "ROADSTEAD_FLEET"
"""Environment variable of every process of a fleet; its value is the home's identity."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LOG_ROTATION_BYTES = 32 << 20
_LIBC = ctypes.CDLL(None, use_errno=True)
_FOREIGN_PREFIXES = ("RAY_", "PG", "KUBERNETES_", "KUBECONFIG", "PYTHONPATH", "PYTHONHOME")


class ProcessState(StrEnum):
    """Where a process of the fleet stands."""

    WAITING = "waiting"
    """for what it depends on"""
    STARTING = "starting"
    READY = "ready"
    DONE = "done"
    """a step that ran once and succeeded"""
    BACKOFF = "backoff"
    """ended; it will be started again"""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """One process: how to start it, when it serves, how to end it."""

    name: str
    """Unique; also the name of its log file."""
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the supervisor's environment, from which variables that would misdirect it are dropped."""
    depends_on: tuple[str, ...] = ()
    """Names that must be ready (or done) before the first start; a later restart of theirs does not restart this."""
    ready: ReadyCheck | None = None
    """None: ready as soon as it runs."""
    ready_within_seconds: float = 60.0
    """Ended and tried again if it does not serve by then."""
    one_shot: bool = False
    """Ready means that it ended with 0; then it is not started again."""
    prepare: Callable[[], None] | None = None
    """Runs before each start: removes what a killed predecessor left."""
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_seconds: float = 10.0
    """Then SIGKILL to its whole session."""


class ProcessReport(BaseModel):
    """What `status` shows of a process; a row of `state.json`."""

    name: str
    state: ProcessState = ProcessState.WAITING
    identity: ProcessIdentity | None = None
    """Of the running process, or of the last one that ran."""
    since: float = 0.0
    """Unix time of the last change of state."""
    started_at: float | None = None
    """Unix time of the last start."""
    failures: int = 0
    """Ends and missed deadlines since it was last ready."""
    restarts: int = 0
    """Starts after the first."""
    detail: str = ""
    """Why it is not ready, in words."""

    @property
    def settled(self) -> bool:
        return self.state in {ProcessState.READY, ProcessState.DONE}


@dataclass(slots=True)
class Child:
    """A started process, until it and its session are gone."""

    spec: ProcessSpec
    identity: ProcessIdentity
    exited: asyncio.Future[int]
    """Its exit code, negative for a signal."""


def spawn(spec: ProcessSpec, *, log: Path, mark: str) -> tuple[subprocess.Popen[bytes], ProcessIdentity]:
    """Start the process in a session of its own, its output appended to `log`.

    To be called in the supervisor's only thread: the kernel delivers PR_SET_PDEATHSIG when the *thread* that forked
    ends, and code between fork and exec is only safe without other threads.
    """
    if log.exists() and log.stat().st_size > _LOG_ROTATION_BYTES:
        log.replace(log.with_suffix(".log.1"))
    parent = os.getpid()

    def die_with_parent() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(spec.stop_signal), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    with log.open("ab") as output:
        process = subprocess.Popen(
            spec.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=child_environment(spec, mark=mark),
            cwd=spec.cwd,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - there are no other threads, see above
        )
    # It is our child and not reaped yet, so it is in the table even if it has ended.
    identity = identify(process.pid)
    if identity is None:
        raise ProcessLookupError(process.pid)
    return process, identity


def child_environment(spec: ProcessSpec, *, mark: str) -> dict[str, str]:
    """The person's environment without what would misdirect a child, plus the spec's, plus the fleet's mark."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_PREFIXES)}
    return inherited | dict(spec.env) | {FLEET_MARK: mark}


def adopt_orphans() -> None:
    """Make this process the parent of whatever its descendants leave behind (PR_SET_CHILD_SUBREAPER)."""
    if _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def words_of_exit(code: int) -> str:
    """`exited with 1`, `ended by SIGKILL`."""
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def start_levels(specs: tuple[ProcessSpec, ...]) -> list[list[ProcessSpec]]:
    """The specs in groups: each depends only on groups before it. Raises ValueError on a gap or a circle."""
    names = {spec.name for spec in specs}
    for spec in specs:
        unknown = set(spec.depends_on) - names
        if unknown:
            raise ValueError(f"{spec.name} depends on {', '.join(sorted(unknown))}, which is not part of the fleet")
    levels: list[list[ProcessSpec]] = []
    placed: set[str] = set()
    while len(placed) < len(specs):
        level = [spec for spec in specs if spec.name not in placed and placed.issuperset(spec.depends_on)]
        if not level:
            circle = sorted(names - placed)
            raise ValueError(f"these depend on each other in a circle: {', '.join(circle)}")
        levels.append(level)
        placed.update(spec.name for spec in level)
    return levels
