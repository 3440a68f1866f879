"""How many bytes a second all cores together read of the host's memory: what bounds the speed of engines on CPUs.

Kubernetes tells nothing of it, so it is measured: each core looks for a byte that is not there (``memchr``) in a piece
of a buffer that no cache can hold. That takes a good part of a second, in which engines would be slow and the figure
too low; so it is done once after each start of the machine, and not while engines run. The figure is kept in the
node's store with the machine's boot id.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from roadstead_weights.store import write_atomically

log = structlog.get_logger(__name__)

_ROOT: Final = Path("/")
_TIMES_CACHE: Final = 4
_LEAST_TIMES_CACHE: Final = 2
"""With a smaller buffer the caches would be measured."""
_ASSUMED_CACHE_BYTES: Final = 32 * 1024 * 1024
"""Where the kernel does not tell, as in many virtual machines."""
_MOST_BYTES_OF_A_CORE: Final = 512 * 1024 * 1024
_SHARE_OF_FREE: Final = 4
_PASSES: Final = 5
_SECONDS: Final = 0.6
"""After so long no further pass is begun."""
_AT_THE_LINE_SECONDS: Final = 5.0
"""Threads that could not all be made do not wait for each other for ever."""
_ABSENT: Final = 1
_PIECE: Final = 2 * 1024 * 1024


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    boot: str
    bytes_per_second: float


class _Piece(NamedTuple):
    """What one core reads."""

    address: int
    bytes: int


def memory_bandwidth(
    path: Path, *, cores: frozenset[int], available_bytes: int, may_measure: bool, root: Path = _ROOT
) -> float | None:
    """Bytes a second, as kept in ``path`` since the machine started, else measured now on ``cores``.

    None where it was not and ``may_measure`` is false, and where too little memory is free to tell it from the caches.
    """
    boot = _text(root / "proc/sys/kernel/random/boot_id")
    kept = _kept(path)
    if kept is not None and boot and kept.boot == boot:
        return kept.bytes_per_second
    cache = _cache_bytes(cores, root)
    size = min(_TIMES_CACHE * cache, _MOST_BYTES_OF_A_CORE * len(cores), available_bytes // _SHARE_OF_FREE)
    if not may_measure or size < _LEAST_TIMES_CACHE * cache:
        return None
    try:
        measured = measure(size, threads=len(cores))
        log.info("memory bandwidth", bytes_per_second=round(measured), buffer_bytes=size, threads=len(cores))
        if boot:
            write_atomically(path, _Kept(boot=boot, bytes_per_second=measured).model_dump_json().encode())
    except (OSError, RuntimeError) as error:  # no memory, no threads, no disk: then nobody tells
        log.warning("memory bandwidth not measured", reason=repr(error))
        return None
    return measured


def measure(size: int, *, threads: int) -> float:
    """Bytes a second of the best of a few passes over ``size`` bytes, by so many threads at once.

    Raises ``OSError`` or ``RuntimeError`` where memory or threads are not to be had.
    """
    deadline = time.monotonic() + _SECONDS
    # Whole pieces, so that no two threads meet in a page.
    share = max(_PIECE, size // threads // _PIECE * _PIECE)
    library = ctypes.CDLL(None)
    library.memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    library.memchr.restype = ctypes.c_void_p
    library.memset.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    library.memset.restype = ctypes.c_void_p
    start_line = threading.Barrier(threads)

    def look_through(piece: _Piece) -> tuple[float, float]:
        start_line.wait(_AT_THE_LINE_SECONDS)
        began = time.perf_counter()
        library.memchr(piece.address, _ABSENT, piece.bytes)  # ctypes lets go of the GIL meanwhile
        return began, time.perf_counter()

    with mmap.mmap(-1, share * threads) as memory, ThreadPoolExecutor(threads) as cores:
        first = ctypes.c_char.from_buffer(memory)
        try:
            start = ctypes.addressof(first)
            pieces = [_Piece(start + index * share, share) for index in range(threads)]
            # Written first: pages that were only read are all the same one, which stays in the nearest cache.
            list(cores.map(lambda piece: library.memset(piece.address, 0, piece.bytes), pieces))
            fastest = 0.0
            for _ in range(_PASSES):
                times = list(cores.map(look_through, pieces))
                seconds = max(ended for _, ended in times) - min(began for began, _ in times)
                fastest = max(fastest, share * threads / seconds)
                if time.monotonic() + seconds > deadline:
                    break
        finally:
            del first  # the mapping cannot be closed while anything points into it
    return fastest


def _cache_bytes(cores: frozenset[int], root: Path) -> int:
    """Of the last level, all of those that serve these cores."""
    last: dict[str, int] = {}
    """By the cores that share it."""
    for core in cores:
        levels = [
            (int(level), _size(folder), _text(folder / "shared_cpu_list"))
            for folder in (root / f"sys/devices/system/cpu/cpu{core}/cache").glob("index*")
            if (level := _text(folder / "level")).isdigit()
        ]
        if levels:
            _, size, shared = max(levels)
            last[shared] = size
    return sum(last.values()) or _ASSUMED_CACHE_BYTES


def _size(folder: Path) -> int:
    """``32768K`` in bytes."""
    text = _text(folder / "size").removesuffix("K")
    return int(text) * 1024 if text.isdigit() else 0


def _kept(path: Path) -> _Kept | None:
    try:
        return _Kept.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
