"""Starting, following and ending a fleet from outside: what `up` and `down` do, and what tests stand on.

The supervisor is a process of its own and keeps on; everything here reads `state.json` and sends signals.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from roadstead.embedded.binaries import find_or_build_binaries
from roadstead.embedded.failures import EmbeddedFleetError
from roadstead.embedded.home import Home
from roadstead.embedded.postgres import Postgres
from roadstead.embedded.process_table import ProcessIdentity
from roadstead.embedded.processes import ProcessReport, ProcessState
from roadstead.embedded.progress import Progress
from roadstead.embedded.state import FleetPhase, FleetState, end_leftovers, read_state

_POLL_SECONDS = 0.1
_HOPELESS_FAILURES = 4
"""So many failed starts in a row are not bad luck."""
_DOWN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Started:
    """A supervisor that runs; `process` is known only to the one who started it."""

    home: Home
    process: subprocess.Popen[bytes] | None


def supervisor_runs(home: Home) -> bool:
    """Whether one holds this home's lock."""
    try:
        with home.supervisor_lock.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def supervisor_identity(home: Home) -> ProcessIdentity | None:
    """The supervisor by pid and start time, as it wrote it down."""
    try:
        return ProcessIdentity.model_validate_json(home.supervisor_pid.read_bytes())
    except (OSError, ValidationError):
        return None


def start_supervisor(
    home: Home, *, only: Sequence[str] = (), throwaway: bool = False, bound: bool = False
) -> subprocess.Popen[bytes]:
    """Start one in a session of its own; it lives on when its parent ends, unless `bound` (tests)."""
    home.create()
    command = [sys.executable, "-m", "roadstead.embedded.supervise", "--home", str(home.root)]
    command += [f"--only={name}" for name in only]
    command += ["--throwaway"] if throwaway else []
    command += ["--bound"] if bound else []
    with home.log("supervisor").open("ab") as log:
        # No double fork: with a session of its own and no terminal it is as detached as a daemon can be.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )


def wait_until_settled(
    started: Started, *, deadline_seconds: float, follow: Callable[[FleetState], None] = lambda _: None
) -> FleetState:
    """Return once every process is ready or done; raise with the reason and the log's tail if one never will be."""
    deadline = time.monotonic() + deadline_seconds
    while True:
        state = _current_state(started)
        if state is not None:
            follow(state)
            if state.processes and all(report.settled for report in state.processes):
                return state
            _raise_if_hopeless(started.home, state)
        if started.process is not None and started.process.poll() is not None:
            raise _supervisor_failure(started.home)
        if time.monotonic() > deadline:
            raise _too_slow(started.home, state, deadline_seconds)
        time.sleep(_POLL_SECONDS)


def end_fleet(home: Home, *, follow: Callable[[FleetState], None] = lambda _: None) -> int:
    """End the supervisor and all it started; data stay. Says how many processes were left over and ended by hand."""
    identity = supervisor_identity(home)
    if supervisor_runs(home) and identity is not None and identity.alive():
        os.kill(identity.pid, signal.SIGTERM)
        deadline = time.monotonic() + _DOWN_SECONDS
        while supervisor_runs(home) and time.monotonic() < deadline:
            state = read_state(home.state_file)
            if state is not None:
                follow(state)
            time.sleep(_POLL_SECONDS)
        if identity.alive() and supervisor_runs(home):
            os.kill(identity.pid, signal.SIGKILL)
    state = read_state(home.state_file)
    ended = end_leftovers(state, mark=home.identity)
    shutil.rmtree(home.runtime, ignore_errors=True)
    return ended


def log_tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 32_768))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


@contextmanager
def control_plane(home: Path, *, controllers: bool = False) -> Iterator[Path]:
    """A real etcd and API server for as long as the block lasts; gives the kubeconfig. For tests: nothing is synced.

    With `controllers` also the controller-manager: it collects garbage and writes to the API server as administrator.
    """
    with _bound(Home.of(home), "kube-controller-manager" if controllers else "kube-apiserver") as running:
        yield running.kubeconfig


@contextmanager
def postgres_server(home: Path) -> Iterator[str]:
    """A real Postgres for as long as the block lasts; gives the URL of an empty database. For tests."""
    with _bound(Home.of(home), "postgres") as running:
        yield database_url(running)


def database_url(home: Home) -> str:
    """The URL of the running Postgres of this home."""
    ports = read_ports(home)
    return Postgres(
        data=home.data / "postgres", port=ports["postgres"], password_file=home.secrets / "postgres.password"
    ).database_url


def read_ports(home: Home) -> dict[str, int]:
    """The ports that the supervisor chose."""
    return TypeAdapter(dict[str, int]).validate_json(home.ports_file.read_bytes())


@contextmanager
def _bound(home: Home, *only: str) -> Iterator[Home]:
    find_or_build_binaries(Progress())
    process = start_supervisor(home, only=only, throwaway=True, bound=True)
    try:
        wait_until_settled(Started(home, process), deadline_seconds=120)
        yield home
    finally:
        end_fleet(home)
        process.wait(30)


def _current_state(started: Started) -> FleetState | None:
    """What the *living* supervisor says; an older one's last words do not count."""
    state = read_state(started.home.state_file)
    if state is None or not state.supervisor.alive():
        return None
    if started.process is not None and state.supervisor.pid != started.process.pid:
        return None
    return state


def _raise_if_hopeless(home: Home, state: FleetState) -> None:
    if state.phase is not FleetPhase.RUNNING:
        raise EmbeddedFleetError(
            "FleetStopping", "The fleet is being stopped.", remedy="Wait for `roadstead down`, then start it again."
        )
    for report in state.processes:
        if report.failures >= _HOPELESS_FAILURES and report.state is ProcessState.BACKOFF:
            raise EmbeddedFleetError(
                "ProcessFailed",
                f"{report.name} does not start: it {_last_words(report)}",
                remedy=_remedy(home, report.name),
                log_tail=log_tail(home.log(report.name)),
            )


def _last_words(report: ProcessReport) -> str:
    return report.detail or "gave no reason."


def _remedy(home: Home, name: str) -> str:
    tail = log_tail(home.log(name))
    if "No space left on device" in tail or "no space left on device" in tail:
        return "The disk is full: free some space and run `roadstead up` again."
    if "ddress already in use" in tail:
        return "Another program took its port meanwhile: run `roadstead up` again, which chooses a free one."
    return f"See {home.log(name)}; mend the cause and run `roadstead up` again."


def _supervisor_failure(home: Home) -> EmbeddedFleetError:
    return EmbeddedFleetError(
        "SupervisorFailed",
        "The supervisor ended before the fleet was up.",
        remedy=_remedy(home, "supervisor"),
        log_tail=log_tail(home.log("supervisor")),
    )


def _too_slow(home: Home, state: FleetState | None, seconds: float) -> EmbeddedFleetError:
    waiting = [report for report in state.processes if not report.settled] if state else []
    started = [report for report in waiting if report.state is not ProcessState.WAITING] or waiting
    names = ", ".join(f"{report.name} ({report.detail or report.state})" for report in started) or "the supervisor"
    return EmbeddedFleetError(
        "FleetTooSlow",
        f"After {seconds:.0f} s these are not ready: {names}.",
        remedy="Run `roadstead up` again to go on waiting, or see `roadstead logs`.",
        log_tail=log_tail(home.log(started[0].name if started else "supervisor")),
    )
