"""The node's book of memory: which replica was granted how much, of the host and of accelerators.

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
* What an engine really holds is told by its replica (an agent in a Pod of its own cannot see it) and written beside the
  grant. It stands until the next word: an engine that outlives its replica keeps it.
* What it holds of an accelerator nobody has to tell: the accelerator says what is free. An engine that still loads has
  not taken it yet, so what is free is the less of that and of what leases have left.

Concurrency: all methods run on the agent's event loop without awaiting, so a grant is decided and written before the
next request is looked at.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from roadstead_worker.agent.door import DoorProblem
from roadstead_worker.contract import DeviceState, Digest, LeaseMemory, LeaseRequest, LeaseState
from roadstead_worker.lease_file import LEASES_FOLDER, lease_path, names_same_file

log = structlog.get_logger(__name__)

_GRANT_LIMIT_BYTES: Final = 64 * 1024
_GRANT_BYTES: Final = 1024
"""A file's size, blanks included: one write replaces all of it, so an agent that is killed leaves no half of one."""


class Grant(BaseModel):
    """What a lease file holds once the agent has agreed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    slot: str
    index: int
    content: str
    artifact: Digest
    bytes: int
    measured: int = 0
    devices: tuple[str, ...] = ()
    device_bytes: int = 0
    """On each of ``devices``."""

    @property
    def cost_bytes(self) -> int:
        """What is gone for others: an engine that took more than it asked for has taken it."""
        return max(self.bytes, self.measured)


class LeaseBook:
    """Leases of one node. Call ``refresh`` at start and then every tick."""

    def __init__(
        self,
        store: Path,
        *,
        budget_bytes: Callable[[], int],
        available_bytes: Callable[[], int],
        devices: Callable[[], tuple[DeviceState, ...]],
    ) -> None:
        """``devices`` tells the node's accelerators as they say of themselves."""
        self._store = store
        self._folder = store / LEASES_FOLDER
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._budget_bytes = budget_bytes
        self._available_bytes = available_bytes
        self._devices = devices
        self._grants: dict[Path, Grant] = {}

    def refresh(self) -> None:
        """Read the folder: forget what is no longer locked, learn what is."""
        held = {}
        for path in sorted(self._folder.glob("*.json")):
            grant = _held_grant(path)
            if grant is not None and path == self._path_of(grant):
                held[path] = grant
        for path in self._grants.keys() - held.keys():
            log.info("lease ended", slot=self._grants[path].slot, index=self._grants[path].index)
        self._grants = held

    def states(self) -> tuple[LeaseState, ...]:
        return tuple(
            LeaseState(
                slot=grant.slot,
                index=grant.index,
                content=grant.content,
                bytes_granted=grant.bytes,
                bytes_measured=grant.measured,
                devices=grant.devices,
                device_bytes=grant.device_bytes,
            )
            for grant in self._grants.values()
        )

    def uses(self, artifact: str) -> str | None:
        """A slot whose lease is for this artifact, if there is one."""
        return next((grant.slot for grant in self._grants.values() if grant.artifact == artifact), None)

    def free_bytes(self, *, without: Path | None = None) -> int:
        """What can be granted now; ``without`` leaves one lease out, which is about to be granted anew."""
        taken = sum(grant.cost_bytes for path, grant in self._grants.items() if path != without)
        return max(0, min(self._budget_bytes() - taken, self._available_bytes()))

    def devices(self) -> tuple[DeviceState, ...]:
        """The node's accelerators, with what can be granted of each now."""
        return tuple(
            device.model_copy(update={"free_bytes": self._free_bytes_on(device)}) for device in self._devices()
        )

    def grant(self, request: LeaseRequest) -> None:
        """Grant the request, or raise ``DoorProblem``.

        ``LeaseNotHeld``, ``DeviceUnknown``, or with figures ``InsufficientRAM`` or ``InsufficientVRAM``. Asking again
        (an engine that was restarted) replaces the earlier grant.
        """
        path = self._checked_path(request)
        self.refresh()
        free = self.free_bytes(without=path)
        if request.bytes > free:
            raise self._insufficient(request, free, without=path)
        self._check_devices(request, without=path)
        grant = Grant(
            slot=request.slot,
            index=request.index,
            content=request.content,
            artifact=request.artifact,
            bytes=request.bytes,
            devices=request.devices,
            device_bytes=request.device_bytes,
        )
        if not _write_grant(path, grant):
            raise _not_held(path)
        self._grants[path] = grant
        log.info("lease granted", slot=grant.slot, index=grant.index, bytes=grant.bytes, free_bytes=free - grant.bytes)

    def measured(self, memory: LeaseMemory) -> None:
        """Enter what a replica measured, or raise ``DoorProblem``: ``LeaseNotHeld`` if it has no grant."""
        path = self._checked_path(memory)
        self.refresh()
        grant = self._grants.get(path)
        if grant is None:
            raise _not_held(path)
        told = grant.model_copy(update={"measured": memory.bytes})
        if not _write_grant(path, told):
            raise _not_held(path)
        self._grants[path] = told

    def _checked_path(self, request: LeaseRequest | LeaseMemory) -> Path:
        try:
            return lease_path(self._store, request.slot, request.index)
        except ValueError as error:
            raise DoorProblem(status=400, code="InvalidRequest", message=str(error), field="slot") from None

    def _path_of(self, grant: Grant) -> Path | None:
        try:
            return lease_path(self._store, grant.slot, grant.index)
        except ValueError:
            return None

    def _free_bytes_on(self, device: DeviceState, *, without: Path | None = None) -> int:
        left = device.memory_bytes - sum(grant.device_bytes for grant in self._grants_on(device, without=without))
        return max(0, min(left, device.free_bytes))

    def _grants_on(self, device: DeviceState, *, without: Path | None) -> Iterator[Grant]:
        return (grant for path, grant in self._grants.items() if path != without and device.id in grant.devices)

    def _check_devices(self, request: LeaseRequest, *, without: Path) -> None:
        known = {device.id: device for device in self._devices()}
        for wanted in request.devices:
            device = known.get(wanted)
            if device is None:
                raise _unknown(request, wanted, known)
            free = self._free_bytes_on(device, without=without)
            if request.device_bytes > free:
                raise self._insufficient_on(device, request, free, without=without)

    def _insufficient_on(self, device: DeviceState, request: LeaseRequest, free: int, *, without: Path) -> DoorProblem:
        holders = ", ".join(
            f"{grant.slot}.{grant.index} {grant.device_bytes}" for grant in self._grants_on(device, without=without)
        )
        return DoorProblem(
            status=409,
            code="InsufficientVRAM",
            message=(
                f"{request.slot} needs {request.device_bytes} bytes on {device.id} and {free} are free: "
                f"the {device.product} has {device.memory_bytes}, no process holds {device.free_bytes} of them, "
                f"leases hold {holders or 'nothing'}."
            ),
            field=request.slot,
        )

    def _insufficient(self, request: LeaseRequest, free: int, *, without: Path) -> DoorProblem:
        holders = ", ".join(
            f"{grant.slot}.{grant.index} {grant.cost_bytes}" for path, grant in self._grants.items() if path != without
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


def _unknown(request: LeaseRequest, wanted: str, known: Iterable[str]) -> DoorProblem:
    return DoorProblem(
        status=409,
        code="DeviceUnknown",
        message=(
            f"{request.slot} is to run on {wanted}, and this node does not tell of it: "
            f"it tells of {', '.join(known) or 'no accelerators'}."
        ),
        field=request.slot,
    )


def _not_held(path: Path) -> DoorProblem:
    return DoorProblem(
        status=409,
        code="LeaseNotHeld",
        message=f"{path.name} is not locked, or nothing was granted for it: claim it and ask for memory first.",
        field="slot",
    )


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
        os.pwrite(fd, grant.model_dump_json().encode().ljust(max(_GRANT_BYTES, os.fstat(fd).st_size)), 0)
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
