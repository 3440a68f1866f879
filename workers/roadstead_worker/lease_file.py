"""The replica's side of a lease: claiming a device group by locking ``leases/<slot>.<index>.json``.

One file is both the claim of a device group and the record of the memory granted for it. It is held by ``flock``, whose
lock belongs to the *open file description*: the engine child inherits the descriptor, so the claim lives exactly as
long as the last of replica and engine, whatever kills either of them. Nobody has to tell anybody that a lease ended.

The protocol between claimers (here) and the node agent (``agent/leases.py``):

1. A claimer opens (creating) the file and takes ``LOCK_EX | LOCK_NB``. Failing means taken: it tries the next index.
2. Having the lock, it checks that the path still names the inode it locked. The agent unlinks freed files while it
   holds their lock, so a claimer may win the lock of a file that has just been removed: it closes it and tries again.
3. Having both, it empties the file: a grant that an earlier holder left says nothing about the new one.
4. It asks the agent (``POST /leases``); the agent writes the grant into the file, in place.
5. The agent probes files with the same non-blocking lock and lets go at once, so for an instant a free file looks
   taken. ``claim`` returning ``None`` therefore means "not now": wait and ask again, never fail.

Never replace a lease file by rename (the lock would stay on the old inode), never close a duplicate with
``flock(LOCK_UN)`` (it unlocks for everybody who shares the description): to release, close every descriptor.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LEASES_FOLDER: Final = "leases"
AGENT_SOCKET: Final = "agent.sock"
_SLOT: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,126}")
_LARGEST_INDEX: Final = 9_999
_INODE_ATTEMPTS: Final = 8


@dataclass(slots=True, kw_only=True)
class ClaimedLease:
    """A device group that is ours as long as ``fd``, or an inherited copy of it, is open."""

    slot: str
    index: int
    path: Path
    fd: int
    """Inheritable; pass it to the engine with ``subprocess.Popen(..., pass_fds=[lease.fd])``."""

    def release(self) -> None:
        """Give up our descriptor (idempotent). An engine that still runs keeps the lease until it ends."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def lease_path(store: Path, slot: str, index: int) -> Path:
    """Where the lease of a device group lives; ``ValueError`` for a slot or index that could leave the folder."""
    if not _SLOT.fullmatch(slot):
        raise ValueError(f"{slot[:80]!r} is no slot name.")
    if not 0 <= index <= _LARGEST_INDEX:
        raise ValueError(f"{index} is no index of a device group.")
    return store / LEASES_FOLDER / f"{slot}.{index}.json"


def claim(store: Path, slot: str, groups: int) -> ClaimedLease | None:
    """Claim the first free of ``groups`` device groups of ``slot``; ``None`` when none is free *now* (ask again).

    Never blocks. Raises ``OSError`` when the store cannot be used at all.
    """
    (store / LEASES_FOLDER).mkdir(mode=0o755, parents=True, exist_ok=True)
    for index in range(groups):
        path = lease_path(store, slot, index)
        fd = _lock(path)
        if fd is not None:
            return ClaimedLease(slot=slot, index=index, path=path, fd=fd)
    return None


def is_held(path: Path) -> bool:
    """Whether somebody holds the lease now. Tries a shared lock and lets go at once (point 5 of the protocol)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def names_same_file(path: Path, fd: int) -> bool:
    """Whether ``path`` still names the file that ``fd`` has open."""
    try:
        at_path = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    opened = os.fstat(fd)
    return (at_path.st_dev, at_path.st_ino) == (opened.st_dev, opened.st_ino)


def _lock(path: Path) -> int | None:
    for _ in range(_INODE_ATTEMPTS):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        if names_same_file(path, fd):
            with contextlib.suppress(OSError):  # a full disk must not cost a claim; the agent overwrites the rest
                os.ftruncate(fd, 0)
            os.set_inheritable(fd, True)
            return fd
        os.close(fd)
    return None
