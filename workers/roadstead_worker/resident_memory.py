"""What a process holds in memory, as leases count it: its resident set.

A lease must cover what an engine holds *when nobody shares with it*. The proportional set size, which divides a page by
the number of processes that map it, is not that: it falls by 14 to 20 MiB with every Python process beside the engine,
halves the weights of two engines with one blob, and jumps when the other one ends, all without the engine doing
anything. The resident set depends on the engine alone, so an estimate can be checked against it. It counts what two
engines share twice, exactly as their exclusive leases do.

Read from ``smaps_rollup``, which counts pages; ``statm`` is cheaper and off by what each CPU has not yet added up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from roadstead_worker.process_tree import descendants

_PROC: Final = Path("/proc")


def resident_bytes_below(root: int, proc: Path = _PROC) -> int:
    """Bytes of all processes below ``root``, without itself. Slow (milliseconds per GiB): call it in a thread."""
    return sum(resident_bytes(pid, proc) for pid in descendants(root, proc))


def resident_bytes(pid: int, proc: Path = _PROC) -> int:
    """Bytes of one process, weights mapped from a file included; 0 when it is gone or may not be looked at."""
    try:
        text = (proc / str(pid) / "smaps_rollup").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    return 0
