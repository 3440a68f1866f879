"""What the supervisor tells the world: `state.json`, replaced atomically at every change.

Readers (`status`, `up`, the next supervisor after a crash) need no door and no protocol, and what it says survives the
supervisor, so that leftovers of one that was killed can be named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ValidationError

from roadstead.embedded.files import write_atomically
from roadstead.embedded.process_table import (
    ProcessIdentity,
    ProcessRow,
    all_rows,
    descendants,
    end_all,
    marked,
    session_members,
)
from roadstead.embedded.processes import FLEET_MARK, ProcessReport


class FleetPhase(StrEnum):
    """Where the fleet as a whole stands."""

    RUNNING = "running"
    """Processes are started and kept up; each says for itself whether it is ready."""
    STOPPING = "stopping"
    STOPPED = "stopped"


class FleetState(BaseModel):
    """The content of `state.json`."""

    supervisor: ProcessIdentity
    phase: FleetPhase = FleetPhase.RUNNING
    fingerprint: str = ""
    """Digest of every command and environment; another one means that a restart is due."""
    notes: list[str] = []
    """Sentences for a person about this start: leftovers that were ended, ports that moved."""
    processes: list[ProcessReport] = []

    def process(self, name: str) -> ProcessReport | None:
        return next((report for report in self.processes if report.name == name), None)


def read_state(path: Path) -> FleetState | None:
    """What was last written, None if nothing or nothing readable was."""
    try:
        return FleetState.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write_state(path: Path, state: FleetState) -> None:
    write_atomically(path, state.model_dump_json(indent=2) + "\n")


def leftovers(state: FleetState | None, *, mark: str) -> Callable[[], list[ProcessRow]]:
    """A search for processes of a fleet whose supervisor is gone.

    Found by the sessions that `state` names, by the mark in their environment, and by descent from either.
    """
    leaders = [report.identity for report in state.processes if report.identity] if state else []

    def find() -> list[ProcessRow]:
        rows = all_rows()
        found = {row.pid: row for row in marked(FLEET_MARK, mark, rows)}
        for leader in leaders:
            found |= {row.pid: row for row in session_members(leader, rows)}
        for row in tuple(found.values()):
            found |= {child.pid: child for child in descendants(row.pid, rows)}
        return _living(found.values())

    return find


def end_leftovers(state: FleetState | None, *, mark: str, grace_seconds: float = 5.0) -> int:
    """End what a killed supervisor left; says how many processes that were."""
    return end_all(leftovers(state, mark=mark), grace_seconds=grace_seconds)


def _living(rows: Iterable[ProcessRow]) -> list[ProcessRow]:
    return [row for row in rows if not row.zombie]
