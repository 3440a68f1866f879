"""Memory of an engine, measured: the resident set of its processes. ``resident_memory`` says why it is that.

The processes are the descendants of the replica that took the lease, without the replica itself (Ray's own memory is
not the engine's). When the replica is gone but its lease is still locked, they are whoever has the lease file open.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from roadstead_worker.resident_memory import resident_bytes

_PROC: Final = Path("/proc")


def start_time(pid: int, proc: Path = _PROC) -> int:
    """Clock ticks after boot at which a process started, 0 if it is gone: with the pid, a name nobody reuses."""
    fields = _stat_fields(pid, proc)
    return int(fields[19]) if len(fields) > 19 else 0


def engine_memory(*, replica: int, replica_started: int, lease: Path, proc: Path = _PROC) -> int:
    """Bytes of the engine's processes; 0 when none runs or none may be looked at."""
    if replica_started and start_time(replica, proc) == replica_started:
        pids = _descendants(replica, proc)
    else:
        pids = _openers(lease, proc)
    return sum(resident_bytes(pid, proc) for pid in pids)


def _descendants(root: int, proc: Path) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid in _pids(proc):
        fields = _stat_fields(pid, proc)
        if len(fields) > 1:
            children.setdefault(int(fields[1]), []).append(pid)
    found, waiting = [], list(children.get(root, ()))
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, ()))
    return found


def _openers(path: Path, proc: Path) -> list[int]:
    """Processes of ours that have ``path`` open, other than this one."""
    try:
        wanted = path.stat()
    except OSError:
        return []
    found = []
    for pid in _pids(proc):
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            for descriptor in (proc / str(pid) / "fd").iterdir():
                opened = descriptor.stat()
                if (opened.st_dev, opened.st_ino) == (wanted.st_dev, wanted.st_ino):
                    found.append(pid)
                    break
    return found


def _pids(proc: Path) -> list[int]:
    return [int(name) for name in os.listdir(proc) if name.isdigit()]  # noqa: PTH208 - Path objects cost ten times as much


def _stat_fields(pid: int, proc: Path) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on (the name before it may hold blanks and brackets)."""
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
