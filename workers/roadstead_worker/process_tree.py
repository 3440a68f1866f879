"""Who descends from whom, as /proc tells: for measuring an engine with all it started, and for ending a Ray node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


def descendants(root: int, proc: Path = _PROC) -> list[int]:
    """Processes below ``root``, zombies left out, ``root`` itself not included. One pass over /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir(proc):  # noqa: PTH208 - Path objects cost ten times as much
        if name.isdigit() and (parent := _parent(int(name), proc)) is not None:
            children.setdefault(parent, []).append(int(name))
    found, waiting = [], list(children.get(root, ()))
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, ()))
    return found


def _parent(pid: int, proc: Path) -> int | None:
    """``None`` for a process that is gone or has ended."""
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The name before the last bracket may hold blanks and brackets itself.
    state, parent, *_ = text.rpartition(")")[2].split()
    return None if state in {"Z", "X"} else int(parent)
