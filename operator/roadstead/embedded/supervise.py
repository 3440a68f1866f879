"""The background process behind `roadstead up`: `python -m roadstead.embedded.supervise`.

Takes the home's lock, ends what a killed predecessor left, chooses ports, and runs the supervisor until SIGTERM. It
needs the Kubernetes programs to be there already: building them is for the foreground, where somebody watches.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from roadstead.embedded.binaries import find_binaries
from roadstead.embedded.failures import EmbeddedFleetError
from roadstead.embedded.files import write_atomically
from roadstead.embedded.fleet import NODES, Fleet, fingerprint, port_wishes
from roadstead.embedded.home import Home
from roadstead.embedded.node_heartbeat import keep_nodes_ready
from roadstead.embedded.ports import choose_ports
from roadstead.embedded.process_table import identify
from roadstead.embedded.progress import Progress
from roadstead.embedded.state import end_leftovers, read_state
from roadstead.embedded.supervisor import Companion, Supervisor

log = structlog.get_logger(__name__)
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run until told to stop; 1 with the reason in the log if it cannot start."""
    parser = argparse.ArgumentParser(prog="roadstead-supervisor")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--only", action="append", default=[], help="a process, with all it depends on")
    parser.add_argument("--throwaway", action="store_true", help="no fsync: for tests")
    parser.add_argument("--bound", action="store_true", help="end with the process that started this one")
    options = parser.parse_args()
    if options.bound:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    home = Home.of(options.home)
    try:
        home.create()
        with _sole_supervisor(home):
            supervise(home, only=tuple(options.only), durable=not options.throwaway)
    except (EmbeddedFleetError, ValueError) as error:
        log.error("the fleet cannot be started", error=str(error))  # noqa: TRY400 - a sentence, not a defect
        return 1
    return 0


def supervise(home: Home, *, only: tuple[str, ...], durable: bool) -> None:
    """Clean, choose ports, write files, run."""
    notes = []
    ended = end_leftovers(read_state(home.state_file), mark=home.identity)
    if ended:
        notes.append(f"ended {ended} processes that an earlier, killed supervisor had left")
    binaries = find_binaries(Progress(sys.stdout))
    if binaries is None:
        raise EmbeddedFleetError(
            "BinariesMissing", "The Kubernetes programs are not built.", remedy="Run `roadstead up`, which builds them."
        )
    ports, moved = choose_ports(port_wishes(home), remembered=home.ports_file)
    fleet = Fleet(home, ports, binaries, durable=durable)
    fleet.write_files()
    specs = fleet.specs(only)
    names = {spec.name for spec in specs}
    supervisor = Supervisor(
        home,
        specs,
        fingerprint=fingerprint(specs),
        notes=(*notes, *moved),
        companions=(_heartbeat(fleet),) if "cluster-objects" in names else (),
    )
    asyncio.run(supervisor.run())


def _heartbeat(fleet: Fleet) -> Companion:
    async def companion(supervisor: Supervisor) -> None:
        def lives(node: str) -> bool:
            parts = ("cluster-objects", fleet.agent_name(node), f"{node}-raylet")
            return all(supervisor.is_ready(part) for part in parts)

        await keep_nodes_ready(fleet.home.kubeconfig, NODES, lives=lives)

    return companion


@contextmanager
def _sole_supervisor(home: Home) -> Iterator[None]:
    """Hold the home's lock for life: a pid file alone could lie."""
    with home.supervisor_lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmbeddedFleetError(
                "AlreadyRunning", f"A supervisor of {home.root} runs already.", remedy="See `roadstead status`."
            ) from None
        identity = identify(os.getpid())
        if identity is not None:
            write_atomically(home.supervisor_pid, identity.model_dump_json() + "\n")
        yield
        home.supervisor_pid.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
