"""The node's weight store: blobs named by digest, partial files beside them, and nothing in between.

Layout under the store's root::

    blobs/sha256/<hex>         whole, verified, read-only (0444); present means usable
    partial/<name>.part        being fetched; <name> is the digest's hex or ``source-<hex>`` while that is unknown
    partial/<name>.json        where the part came from and what the server called it: what resuming needs
    store.lock                 held by flock as long as an agent owns the store

A blob appears by one rename after its digest has been checked and its bytes are on disk; a crash leaves either no blob
or a good one. Blobs are never hard links to a source, which its owner could still change. Sizes are bytes.

Concurrency: one process owns a store (``store.lock``); inside it, the caller runs at most one writer per name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from roadstead_weights.digests import Digest
from roadstead_weights.errors import WeightsCode, WeightsError

RESERVE_BYTES: Final = 256 * 1024 * 1024
"""Left free on the store's file system, so that a fetch never starves the node."""
_BLOB_NAME: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a partial file is a part of."""

    source: str
    validator: str
    total: int


class WeightStore:
    """The store under ``root``; call ``open`` before anything else."""

    def __init__(self, root: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.root = root
        self._reserve_bytes = reserve_bytes
        self._blobs = root / "blobs" / "sha256"
        self._partials = root / "partial"
        self._lock = -1

    def open(self) -> None:
        """Take the store for this process and tidy what a crash left; ``BlockingIOError`` if another agent has it."""
        for folder in (self._blobs, self._partials):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = os.open(self.root / "store.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        self._tidy()

    def close(self) -> None:
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def blob_path(self, digest: Digest) -> Path:
        return self._blobs / digest.hex

    def size_of(self, digest: Digest) -> int | None:
        """Bytes of a blob that is ready, else ``None``."""
        try:
            status = self.blob_path(digest).stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def blobs(self) -> dict[Digest, int]:
        """All ready blobs with their sizes, by digest."""
        found = {}
        for entry in sorted(os.scandir(self._blobs), key=lambda each: each.name):
            if _BLOB_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):
                    found[Digest(bytes.fromhex(entry.name))] = entry.stat(follow_symlinks=False).st_size
        return found

    def remove(self, digest: Digest) -> None:
        """Remove the blob and any part of it (idempotent)."""
        self.blob_path(digest).unlink(missing_ok=True)
        self.partial(digest.hex).discard()
        _sync_folder(self._blobs)

    def partial(self, name: str) -> Partial:
        """The partial file of a digest's hex, or of ``source-<hex>``; built from hex that was computed or parsed."""
        if not _BLOB_NAME.fullmatch(name.removeprefix("source-")):
            raise ValueError(f"{name[:80]!r} names no partial file")
        return Partial(self._partials / f"{name}.part", self._partials / f"{name}.json")

    def adopt(self, partial: Partial, digest: Digest) -> None:
        """Make a complete part, whose digest the caller has checked, the blob of that digest."""
        fd = os.open(partial.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o444)
            os.fsync(fd)
        finally:
            os.close(fd)
        partial.path.replace(self.blob_path(digest))
        _sync_folder(self._blobs)
        partial.discard()

    def free_bytes(self) -> int:
        """What fetches may still fill: free space less the reserve, never below 0."""
        return max(0, shutil.disk_usage(self.root).free - self._reserve_bytes)

    def check_room(self, needed_bytes: int, *, what: str) -> None:
        """Return if so many bytes fit, else ``InsufficientDisk`` with both numbers."""
        free = self.free_bytes()
        if needed_bytes > free:
            raise WeightsError(
                WeightsCode.INSUFFICIENT_DISK,
                f"{what} needs {needed_bytes} bytes and the store has {free} to give "
                f"({self._reserve_bytes} are kept free). Remove models from this node or enlarge its store.",
                what,
            )

    def _tidy(self) -> None:
        """Keep what can be resumed (a part with its origin), remove the rest."""
        for path in self._partials.iterdir():
            mate = path.with_suffix({".part": ".json", ".json": ".part"}.get(path.suffix, ".missing"))
            if not mate.exists():
                path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Partial:
    """A file on its way into the store, and the note of where it comes from."""

    path: Path
    note: Path

    def origin(self) -> Origin | None:
        """Where the part comes from; ``None`` if that is unknown or damaged: then it cannot be resumed."""
        try:
            content = json.loads(self.note.read_bytes())
        except (OSError, ValueError):
            return None
        match content:
            case {"source": str(source), "validator": str(validator), "total": int(total)}:
                return Origin(source=source, validator=validator, total=total)
            case _:
                return None

    def remember(self, origin: Origin) -> None:
        """Note the origin, atomically, before the first byte is kept."""
        write_atomically(self.note, json.dumps(asdict(origin)).encode())

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` so that a crash leaves the old or the new, never a mixture."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def disk_error(error: OSError, *, what: str) -> WeightsError:
    """An error of writing to the store, as a user's error."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return WeightsError(
            WeightsCode.INSUFFICIENT_DISK, f"The node's store filled up while {what} was written to it.", what
        )
    return WeightsError(
        WeightsCode.SOURCE_UNAVAILABLE, f"{what} cannot be written to the node's store: {error.strerror}.", what
    )


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
