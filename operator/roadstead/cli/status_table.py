"""`roadstead status`: what `state.json` says, checked against the process table."""

from __future__ import annotations

import time

from rich.console import Console
from rich.table import Table

from roadstead.embedded.home import Home
from roadstead.embedded.processes import ProcessReport, ProcessState
from roadstead.embedded.progress import duration
from roadstead.embedded.running import supervisor_runs
from roadstead.embedded.state import read_state

_COLOURS = {ProcessState.READY: "green", ProcessState.DONE: "green", ProcessState.BACKOFF: "red"}


def print_status(home: Home, console: Console | None = None) -> bool:
    """Print a row per process; True if the fleet runs and all of it is ready."""
    console = console or Console()
    state = read_state(home.state_file)
    runs = supervisor_runs(home)
    if state is None or not runs:
        console.print(f"No fleet runs in {home.root}. Start one with `roadstead up`.", highlight=False)
        return False
    console.print(f"{home.root}: {state.phase.value}, supervisor {state.supervisor.pid}", highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("PROCESS", "STATE", "SINCE", "PID", "RESTARTS", "DETAIL"):
        table.add_column(heading, overflow="fold")
    for report in state.processes:
        table.add_row(*_row(report))
    console.print(table)
    return all(report.settled for report in state.processes)


def _row(report: ProcessReport) -> tuple[str, ...]:
    colour = _COLOURS.get(report.state, "yellow")
    since = duration(max(time.time() - report.since, 0.0)) if report.since else ""
    alive = report.identity is not None and report.identity.alive()
    pid = str(report.identity.pid) if report.identity is not None and alive else ""
    return (report.name, f"[{colour}]{report.state.value}[/]", since, pid, str(report.restarts or ""), report.detail)
