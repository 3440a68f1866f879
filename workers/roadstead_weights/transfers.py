"""Moving bytes: hashing and copying in threads that can be stopped, with progress that can be read meanwhile.

A thread cannot be cancelled, so every long loop looks at a stop flag between chunks, and ``in_thread`` waits for the
thread to notice: when a task's cancellation has been delivered, nothing of it still writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from roadstead_weights.digests import Digest

CHUNK_BYTES: Final = 4 * 1024 * 1024
_RATE_SECONDS: Final = 5.0

Result = TypeVar("Result")


class Stopped(Exception):
    """The loop saw its stop flag."""


class Transfer:
    """How far something is. Written by one thread, read by any."""

    def __init__(self, total: int = 0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = 0
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)], maxlen=64)

    def advance(self, size: int) -> None:
        self.done += size
        now = self._clock()
        if now - self._samples[-1][0] >= _RATE_SECONDS / 32:
            self._samples.append((now, self.done))

    def restart(self, done: int = 0) -> None:
        """Begin counting again at ``done`` (bytes that were there already do not count into the rate)."""
        self.done = done
        self._samples.clear()
        self._samples.append((self._clock(), done))

    @property
    def bytes_per_second(self) -> float:
        """Mean over the last seconds; 0 when nothing moved."""
        now = self._clock()
        samples = list(self._samples)
        first = next((sample for sample in samples if now - sample[0] <= _RATE_SECONDS), samples[-1])
        seconds = now - first[0]
        return max(0.0, (self.done - first[1]) / seconds) if seconds > 0.01 else 0.0


class PartFile:
    """The part of a file that is here already, with the hash over it. Used by one thread at a time."""

    def __init__(self, path: Path, transfer: Transfer) -> None:
        self._file = path.open("a+b")
        self._transfer = transfer
        self._hash = hashlib.sha256()
        self.size = 0

    def resume(self, stop: threading.Event) -> None:
        """Hash what is there."""
        self._file.seek(0)
        self._hash = hashlib.sha256()
        self.size = 0
        while chunk := self._file.read(CHUNK_BYTES):
            _look_at(stop)
            self._hash.update(chunk)
            self.size += len(chunk)
        self._transfer.restart(self.size)

    def restart(self) -> None:
        """Throw away what is there."""
        self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.size = 0
        self._transfer.restart()

    def append(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self._file.write(chunk)
        self.size += len(chunk)
        self._transfer.advance(len(chunk))

    def append_file(self, file: BinaryIO, stop: threading.Event) -> None:
        """Append all of ``file`` from its beginning."""
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            _look_at(stop)
            self.append(chunk)

    def digest(self) -> Digest:
        """The digest of what is there, all of it handed to the operating system."""
        self._file.flush()
        return Digest(self._hash.digest())

    def close(self) -> None:
        """Close, whatever is still buffered: without room for it there is nothing to save."""
        with contextlib.suppress(OSError):
            self._file.close()


def hash_file(file: BinaryIO, transfer: Transfer, stop: threading.Event) -> Digest:
    """The digest of an open file from its beginning."""
    file.seek(0)
    transfer.restart()
    state = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        _look_at(stop)
        state.update(chunk)
        transfer.advance(len(chunk))
    return Digest(state.digest())


async def in_thread(work: Callable[[threading.Event], Result]) -> Result:
    """Run ``work(stop)`` in a thread; when cancelled, set ``stop`` and wait until the thread has ended."""
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        with contextlib.suppress(Exception):
            await task
        raise


def _look_at(stop: threading.Event) -> None:
    if stop.is_set():
        raise Stopped
