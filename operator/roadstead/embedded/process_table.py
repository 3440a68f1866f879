"""Reads the kernel's process table, and ends processes without ever ending a stranger's.

A pid alone names nobody: it may have been given to another program since. So a process is named by pid and start time
(kernel ticks since boot) and by the boot it lived in, and each is checked again right before a signal is sent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_PROC = Path("/proc")


class ProcessIdentity(BaseModel):
    """Names one process for as long as the machine exists."""

    model_config = ConfigDict(frozen=True)

    pid: int
    start_ticks: int
    """When it started, in kernel clock ticks since boot."""
    boot_id: str

    def alive(self) -> bool:
        """Whether exactly this process still runs; a zombie does not."""
        row = read_row(self.pid)
        return row is not None and row.start_ticks == self.start_ticks and not row.zombie and self.this_boot()

    def this_boot(self) -> bool:
        return self.boot_id == boot_id()


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """What `/proc/PID/stat` says."""

    pid: int
    parent: int
    session: int
    start_ticks: int
    zombie: bool


def boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> ProcessIdentity | None:
    """The full name of a living process, None if it is gone."""
    row = read_row(pid)
    return None if row is None else ProcessIdentity(pid=pid, start_ticks=row.start_ticks, boot_id=boot_id())


def read_row(pid: int) -> ProcessRow | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The command's name may hold spaces and brackets; everything after the last bracket is numbers.
    fields = text[text.rindex(")") + 2 :].split()
    return ProcessRow(
        pid=pid, zombie=fields[0] in "ZX", parent=int(fields[1]), session=int(fields[3]), start_ticks=int(fields[19])
    )


def all_rows() -> list[ProcessRow]:
    rows = (read_row(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdigit())
    return [row for row in rows if row is not None]


def descendants(ancestor: int, rows: Iterable[ProcessRow]) -> list[ProcessRow]:
    """All that descend from `ancestor`, itself not included."""
    children: dict[int, list[ProcessRow]] = {}
    for row in rows:
        children.setdefault(row.parent, []).append(row)
    found: list[ProcessRow] = []
    pending = [ancestor]
    while pending:
        for row in children.get(pending.pop(), ()):
            found.append(row)
            pending.append(row.pid)
    return found


def session_members(leader: ProcessIdentity, rows: Iterable[ProcessRow]) -> list[ProcessRow]:
    """The processes of the session that `leader` opened, even when the leader itself is gone.

    The kernel gives no pid anew while a session of that number has members. A member that is older than the leader,
    or a living leader with another start time, tells that the number has been given anew after all.
    """
    if not leader.this_boot():
        return []
    members = [row for row in rows if row.session == leader.pid and row.start_ticks >= leader.start_ticks]
    if any(row.pid == leader.pid and row.start_ticks != leader.start_ticks for row in members):
        return []
    return members


def marked(variable: str, value: str, rows: Iterable[ProcessRow]) -> list[ProcessRow]:
    """The processes that were started with this environment variable (some rewrite it away, so it is no proof)."""
    wanted = f"{variable}={value}".encode()
    found = []
    for row in rows:
        with contextlib.suppress(OSError):
            if wanted in (_PROC / str(row.pid) / "environ").read_bytes().split(b"\0"):
                found.append(row)
    return found


def send(row: ProcessRow, number: signal.Signals) -> bool:
    """Signal exactly this process; False if it is gone."""
    now = read_row(row.pid)
    if now is None or now.start_ticks != row.start_ticks or now.zombie or row.pid in {0, 1, os.getpid()}:
        return False
    try:
        os.kill(row.pid, number)
    except ProcessLookupError:
        return False
    return True


def end_all(find: Callable[[], Iterable[ProcessRow]], *, grace_seconds: float) -> int:
    """SIGTERM, then SIGKILL, to all that `find` finds, until it finds none; says how many were met.

    Blocks; for use outside the supervisor, where nothing else waits.
    """
    met: set[tuple[int, int]] = set()
    deadline = time.monotonic() + grace_seconds
    while True:
        rows = [row for row in find() if not row.zombie and row.pid != os.getpid()]
        if not rows:
            return len(met)
        harder = time.monotonic() >= deadline
        for row in rows:
            key = (row.pid, row.start_ticks)
            if harder:
                send(row, signal.SIGKILL)
            elif key not in met:
                send(row, signal.SIGTERM)
            met.add(key)
        if time.monotonic() > deadline + 10:
            return len(met)
        time.sleep(0.05)
