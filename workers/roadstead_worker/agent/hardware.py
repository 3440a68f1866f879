"""What this machine is and has left, from /proc and cgroups (v1 and v2). Linux only.

In a container the cgroup's limits are the truth, on a machine of one's own /proc is: the smaller of both counts, unless
``limited`` is false. That is said where engines run in another container, whose limits nobody here can read: the
machine counts then, and the budget is told (``ROADSTEAD_MEMORY_BYTES``). Every function takes the root of the file
system, so that tests can show it a machine.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Final

from roadstead_worker.contract import EngineOffer, Hardware

_ROOT: Final = Path("/")
_KNOWN_FLAGS: Final = frozenset({
    "avx", "avx2", "f16c", "fma", "bmi2", "avx512f", "avx512bw", "avx512vl", "avx512vbmi", "avx512_vnni",
    "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve",
    "sve2",
})  # fmt: skip
_UNLIMITED: Final = 1 << 60
"""cgroup v1 says "no limit" with a huge number."""


def read_hardware(root: Path = _ROOT, *, limited: bool = True) -> Hardware:
    """Cores and memory that engines may use at most, and the CPU flags that they care about."""
    memory = _meminfo(root, "MemTotal")
    limit = _memory_limit(root) if limited else None
    return Hardware(
        cores=_cores(root) if limited else os.cpu_count() or 1,
        memory_bytes=memory if limit is None else min(memory, limit),
        isa=_flags(root),
        machine=platform.machine(),
    )


def available_memory(root: Path = _ROOT, *, limited: bool = True) -> int:
    """Bytes that can be taken without swapping: MemAvailable, or what the cgroup has left if that is less."""
    available = _meminfo(root, "MemAvailable")
    limit = _memory_limit(root) if limited else None
    if limit is None:
        return available
    used = _first_number(root, "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory/memory.usage_in_bytes") or 0
    # Page cache that nobody looked at lately is given back before anything fails.
    return max(0, min(available, limit - used + _inactive_file(root)))


def installed_engines() -> tuple[EngineOffer, ...]:
    """Engines that come as a wheel of this environment; name and version stand for an image's digest."""
    try:
        version = importlib.metadata.version("xllamacpp")
    except importlib.metadata.PackageNotFoundError:
        return ()
    return (EngineOffer(engine="LlamaCpp", image=f"xllamacpp=={version}"),)


def _cores(root: Path) -> int:
    cores = len(os.sched_getaffinity(0))
    text = _text(root / "sys/fs/cgroup/cpu.max").split()
    if len(text) == 2 and text[0].isdigit() and text[1].isdigit():
        quota, period = int(text[0]), int(text[1])
    else:
        quota = _first_number(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us") or 0
        period = _first_number(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us") or 0
    if quota > 0 and period > 0:
        cores = min(cores, -(-quota // period))
    return max(1, cores)


def _memory_limit(root: Path) -> int | None:
    limit = _first_number(root, "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")
    return None if limit is None or limit >= _UNLIMITED else limit


def _inactive_file(root: Path) -> int:
    text = _text(root / "sys/fs/cgroup/memory.stat") or _text(root / "sys/fs/cgroup/memory/memory.stat")
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name in {"inactive_file", "total_inactive_file"} and number.isdigit():
            return int(number)
    return 0


def _meminfo(root: Path, name: str) -> int:
    """A field of /proc/meminfo in bytes; ``ValueError`` if the kernel does not tell it."""
    for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
        key, _, rest = line.partition(":")
        if key == name:
            return int(rest.split()[0]) * 1024
    raise ValueError(f"/proc/meminfo has no {name}")


def _flags(root: Path) -> tuple[str, ...]:
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, rest = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            return tuple(sorted(_KNOWN_FLAGS.intersection(rest.split())))
    return ()


def _first_number(root: Path, *paths: str) -> int | None:
    """The number in the first of these files that holds one (``max`` is none)."""
    for path in paths:
        text = _text(root / path).strip()
        if text.isdigit():
            return int(text)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
