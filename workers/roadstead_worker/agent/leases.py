"""The node's book of memory: which replica was granted how much.

The book *is* the folder ``leases/``: one file per device group of a slot, locked (flock) by the replica and, through an
inherited descriptor, by its engine. The protocol with claimers is told in ``roadstead_worker.lease_file``; the agent's
part of it:

* A lease exists exactly as long as its file is locked. The agent finds out by trying the lock itself, without blocking
  and on a descriptor of its own, and lets go at once.
* A file whose lock it got is free: it is unlinked *while the lock is held*. A claimer that opened it before and gets
  the lock afterwards sees that the path no longer names its inode, and begins again.
* A grant is written into the locked file in place, by the agent only. So a restarted agent knows its book by reading
  the locked files; nothing else is remembered.
* A locked file without a grant is a claim that waits: it holds no memory.

Concurrency: all methods run on the agent's event loop without awaiting, so a grant is decided and written before the
next request is looked at. Only measuring runs in a thread (``measure``), on copies.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from roadstead_worker.agent.door import DoorProblem
from roadstead_worker.agent.process_memory import engine_memory, start_time
from roadstead_worker.contract import Digest, LeaseRequest, LeaseState
from roadstead_worker.lease_file import LEASES_FOLDER, lease_path, names_same_file

log = structlog.get_logger(__name__)

_GRANT_LIMIT_BYTES: Final = 64 * 1024


class Grant(BaseModel):
    """What a lease file holds once the agent has agreed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    slot: str
    index: int
    content: str
    artifact: Digest
    bytes: int
    pid: int
    pid_started: int
    """Start time of the process ``pid``, so that a reused pid is not taken for it."""


@dataclass(slots=True)
class _Entry:
    grant: Grant
    measured: int = 0

    @property
    def bytes(self) -> int:
        """What the lease costs: an engine that took more than it asked for has taken it."""
        return max(self.grant.bytes, self.measured)


class LeaseBook:
    """Leases of one node. Call ``refresh`` at start and then every tick."""

    def __init__(self, store: Path, *, budget_bytes: Callable[[], int], available_bytes: Callable[[], int]) -> None:
        self._store = store
        self._folder = store / LEASES_FOLDER
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._budget_bytes = budget_bytes
        self._available_bytes = available_bytes
        self._entries: dict[Path, _Entry] = {}

    def refresh(self) -> bool:
        """Read the folder: forget what is no longer locked, learn what is. Tells whether the book changed."""
        held = {}
        for path in sorted(self._folder.glob("*.json")):
            grant = _held_grant(path)
            if grant is not None and path == self._path_of(grant):
                known = self._entries.get(path)
                held[path] = known if known is not None and known.grant == grant else _Entry(grant)
        changed = {path: entry.grant for path, entry in held.items()} != {
            path: entry.grant for path, entry in self._entries.items()
        }
        for path in self._entries.keys() - held.keys():
            log.info("lease ended", slot=self._entries[path].grant.slot, index=self._entries[path].grant.index)
        self._entries = held
        return changed

    def states(self) -> tuple[LeaseState, ...]:
        return tuple(
            LeaseState(
                slot=entry.grant.slot,
                index=entry.grant.index,
                content=entry.grant.content,
                bytes_granted=entry.grant.bytes,
                bytes_measured=entry.measured,
            )
            for entry in self._entries.values()
        )

    def uses(self, artifact: str) -> str | None:
        """A slot whose lease is for this artifact, if there is one."""
        return next((each.grant.slot for each in self._entries.values() if each.grant.artifact == artifact), None)

    def free_bytes(self, *, without: Path | None = None) -> int:
        """What can be granted now; ``without`` leaves one lease out, which is about to be granted anew."""
        taken = sum(entry.bytes for path, entry in self._entries.items() if path != without)
        return max(0, min(self._budget_bytes() - taken, self._available_bytes()))

    def grant(self, request: LeaseRequest) -> None:
        """Grant the request, or raise ``DoorProblem``: ``LeaseNotHeld``, or ``InsufficientRAM`` with the numbers.

        Asking again (an engine that was restarted) replaces the earlier grant.
        """
        try:
            path = lease_path(self._store, request.slot, request.index)
        except ValueError as error:
            raise DoorProblem(status=400, code="InvalidRequest", message=str(error), field="slot") from None
        self.refresh()
        free = self.free_bytes(without=path)
        if request.bytes > free:
            raise self._insufficient(request, free, without=path)
        grant = Grant(
            slot=request.slot,
            index=request.index,
            content=request.content,
            artifact=request.artifact,
            bytes=request.bytes,
            pid=request.pid,
            pid_started=start_time(request.pid),
        )
        if not _write_grant(path, grant):
            raise DoorProblem(
                status=409,
                code="LeaseNotHeld",
                message=f"Nobody holds the lock of {path.name}: claim it before asking for memory.",
                field="slot",
            )
        self._entries[path] = _Entry(grant)
        log.info("lease granted", slot=grant.slot, index=grant.index, bytes=grant.bytes, free_bytes=free - grant.bytes)

    def measurable(self) -> dict[Path, Grant]:
        """Copies for ``measure``, which runs elsewhere."""
        return {path: entry.grant for path, entry in self._entries.items()}

    def take_measured(self, measured: dict[Path, int], grants: dict[Path, Grant]) -> None:
        """Enter what ``measure`` found, for leases that are still the same."""
        for path, size in measured.items():
            entry = self._entries.get(path)
            if entry is not None and entry.grant == grants[path]:
                entry.measured = size

    def _path_of(self, grant: Grant) -> Path | None:
        try:
            return lease_path(self._store, grant.slot, grant.index)
        except ValueError:
            return None

    def _insufficient(self, request: LeaseRequest, free: int, *, without: Path) -> DoorProblem:
        holders = ", ".join(
            f"{entry.grant.slot}.{entry.grant.index} {entry.bytes}"
            for path, entry in self._entries.items()
            if path != without
        )
        return DoorProblem(
            status=409,
            code="InsufficientRAM",
            message=(
                f"{request.slot} needs {request.bytes} bytes and {free} are free: the budget is "
                f"{self._budget_bytes()}, the machine has {self._available_bytes()} available, "
                f"leases hold {holders or 'nothing'}."
            ),
            field=request.slot,
        )


def measure(grants: dict[Path, Grant]) -> dict[Path, int]:
    """Resident bytes of each lease's engine. Slow (milliseconds per engine and more): call it in a thread."""
    return {
        path: engine_memory(replica=grant.pid, replica_started=grant.pid_started, lease=path)
        for path, grant in grants.items()
    }


def _held_grant(path: Path) -> Grant | None:
    """The grant in a locked file; ``None`` for a claim without one. Unlinks the file if nobody holds it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _lock_was_free(fd):
            if names_same_file(path, fd):
                path.unlink(missing_ok=True)
            return None
        content = os.pread(fd, _GRANT_LIMIT_BYTES, 0)
    finally:
        os.close(fd)
    try:
        return Grant.model_validate_json(content) if content else None
    except ValidationError:
        log.warning("a lease file holds no grant", path=str(path))
        return None


def _write_grant(path: Path, grant: Grant) -> bool:
    """Write into the file that somebody else has locked; tell whether somebody has."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if _lock_was_free(fd):
            return False
        content = grant.model_dump_json().encode()
        os.ftruncate(fd, 0)
        os.pwrite(fd, content, 0)
    finally:
        os.close(fd)
    return True


def _lock_was_free(fd: int) -> bool:
    """Try the lock; it is ours until ``fd`` is closed if this returns ``True``."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
