"""Starts the machines of a cluster as process trees of their own, enters them, and ends them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.machine import cgroups
from tests.cluster.machine.failures import ClusterError
from tests.cluster.machine.home import CHECKOUT, ClusterHome
from tests.cluster.machine.init import READY, MachineSpec

_NAMESPACES = ("--mount", "--propagation=private", "--net", "--pid", "--uts", "--ipc", "--cgroup")
_BORN_WITHIN_SECONDS = 20.0


def start_machine(home: ClusterHome, spec: MachineSpec) -> None:
    """Let a machine come up; its services start in their own time."""
    group = f"{home.cgroup}/{spec.name}"
    file = spec.directory / "machine.json"
    file.write_text(spec.to_json())
    command = ["unshare", *_NAMESPACES, "--fork", "--mount-proc"]
    command += [sys.executable, "-m", "tests.cluster.machine.init", str(file)]
    cgroups.create(group)
    with (spec.logs / f"{spec.name}.log").open("ab") as log, cgroups.joined(group):
        # It outlives whoever starts it: `cluster-up` ends, the cluster does not.
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=CHECKOUT, start_new_session=True
        )


def init_pid(home: ClusterHome, machine: str) -> int | None:
    """The machine's process 1 as the host counts, None if it is not alive."""
    for pid in cgroups.own_pids(f"{home.cgroup}/{machine}"):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
        # Counted from the host's namespace: the pid there, then 1 in the machine's.
        if len(numbers) > 1 and numbers[-1] == "1":
            return pid
    return None


def await_machine(home: ClusterHome, machine: str) -> int:
    """Its process 1, once the places and groups of the machine are its own; raises ClusterError with its log."""
    deadline = time.monotonic() + _BORN_WITHIN_SECONDS
    while time.monotonic() < deadline:
        pid = init_pid(home, machine)
        if pid is not None and Path(f"/proc/{pid}/root{READY}").exists():
            return pid
        time.sleep(0.02)
    raise ClusterError(
        "MachineNotUp",
        f"The machine {machine} did not come up within {_BORN_WITHIN_SECONDS:.0f} s.",
        remedy="Its last lines below say why; root and the right to make namespaces are needed.",
        log_tail="\n".join((home.logs / f"{machine}.log").read_text().splitlines()[-15:]),
    )


def entering(pid: int, *namespaces: str) -> list[str]:
    """The command that runs another in the namespaces of `pid`: all of them unless some are named."""
    return ["nsenter", f"--target={pid}", *(namespaces or ("--all",)), "--"]


def run_in(
    home: ClusterHome,
    machine: str,
    command: Sequence[str],
    *,
    timeout_seconds: float = 120.0,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command as if one were logged in to the machine; never raises for its exit status."""
    pid = init_pid(home, machine)
    if pid is None:
        raise ClusterError("MachineDead", f"The machine {machine} does not run.", remedy="Run `make cluster-up`.")
    return subprocess.run(
        [*entering(pid), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_seconds,
        env={**os.environ, **(environment or {})},
    )


def kill_machine(home: ClusterHome, machine: str) -> None:
    """The death of a machine: process 1 is killed, and with it everything, at once and without a farewell."""
    cgroups.remove(f"{home.cgroup}/{machine}", first=init_pid(home, machine))
