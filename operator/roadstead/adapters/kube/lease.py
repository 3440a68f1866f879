"""Who leads: one Lease, and an epoch that only rises.

Guarantees: a candidate takes the Lease only if it was released, or if it saw no renewal for the holder's whole duration
by its own monotonic clock (the holder's wall clock is never trusted). A leader that could not renew for
``renew_seconds``, for whatever reason, has lost: ``lost`` is called once and the process is expected to end, because
nothing proves that its old work is not still in flight. The duration is longer than that, so the next leader starts
after the last one stopped. A Lease is advice all the same: the epoch is what doors refuse late writers by.

Why not the client's own election (``kubernetes.aio.leaderelection`` 37.0.2): it cannot create a Lease, leads on when
the API server is gone, and keeps renewing after the leading coroutine died.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

import structlog

from roadstead.adapters.kube.api import Api, ApiRefused, Object
from roadstead.adapters.kube.resources import GROUP
from roadstead.ports import DoorError

EPOCH = f"{GROUP}/epoch"
_NOT_FOUND, _CONFLICT = 404, 409
_JITTER = 0.2

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """One Lease and how it is fought for."""

    namespace: str
    identity: str
    """Must differ between processes and between lives of one process."""
    name: str = "roadstead-operator"
    duration_seconds: int = 15
    """Others wait for so long after the last renewal that they saw. Longer: later failover."""
    renew_seconds: float = 10.0
    """A leader without a renewal for so long has lost; must be shorter than the duration."""
    retry_seconds: float = 2.0
    """Pause between renewals and between tries, with jitter."""
    doors_seconds: float = 5.0
    """How long the doors may take to tell their highest epoch; those that do not answer are left out."""


class LeaseLost(DoorError):
    """We do not lead (any more)."""

    def __init__(self, message: str) -> None:
        super().__init__("LeaseLost", message)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The Lease as last read, and when it was first seen like this, by our own clock."""

    record: tuple[str, str, str]
    since: float


class Leadership:
    """One candidate. ``acquire``, then ``keep`` as a task of its own, then ``release``; once lost, never again.

    Whoever is not ready to lead yet may ``follow`` before that, so that a dead holder's time runs meanwhile.

    ``keep`` ends by itself after ``release``; cancelling it before that counts as losing the Lease.
    """

    def __init__(
        self,
        api: Api,
        settings: LeaseSettings,
        *,
        doors: Callable[[], Awaitable[int]],
        lost: Callable[[str], None],
    ) -> None:
        self._api = api
        self._settings = settings
        self._doors = doors
        self._lost = lost
        self._seen: _Seen | None = None
        self._lease: Object = {}
        self._renewed = 0.0
        """Monotonic time just before the last successful write was sent."""
        self._writing = asyncio.Lock()
        self.leading = False
        self.epoch = 0
        """Ours while leading. Every write to a door carries it."""

    async def follow(self) -> NoReturn:
        """Look at the Lease again and again, without taking it, until cancelled."""
        while True:
            try:
                self._look_at(await self._read())
            except DoorError as error:
                _log.debug("lease not seen", code=error.code, why=error.message)
            await self._pause()

    async def acquire(self) -> int:
        """Wait until we lead; the epoch."""
        while not self.leading:
            try:
                await self._try_to_take()
            except DoorError as error:
                level = _log.debug if isinstance(error, LeaseLost) else _log.warning
                level("lease not taken", code=error.code, why=error.message)
            if not self.leading:
                await self._pause()
        _log.info("lease taken", identity=self._settings.identity, epoch=self.epoch)
        return self.epoch

    async def keep(self) -> None:
        """Renew until the Lease is lost or released; when lost, say so through ``lost`` and return."""
        why = "the renewing task ended"
        try:
            why = await self._renew_while_leading()
        finally:
            if self.leading:
                self.leading = False
                _log.error("lease lost", identity=self._settings.identity, epoch=self.epoch, why=why)
                self._lost(why)

    async def raise_epoch(self, above: int) -> int:
        """A door told a higher epoch although we hold the Lease: go above it. ``LeaseLost`` if we do not hold it."""
        if above < self.epoch:
            return self.epoch
        await self._write(holder=self._settings.identity, epoch=above + 1)
        _log.warning("epoch raised", epoch=self.epoch, above=above)
        return self.epoch

    async def release(self) -> None:
        """Give the Lease back, so that another need not wait; only after the last action has ended."""
        if not self.leading:
            return
        try:
            await self._write(holder="", epoch=self.epoch)
        except DoorError as error:
            _log.warning("lease not released", code=error.code, why=error.message)
        self.leading = False

    # ── Taking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _try_to_take(self) -> None:
        lease = await self._read()
        self._look_at(lease)
        if self._held(lease):
            return
        epoch = 1 + max(epoch_of(lease), await self._highest_of_doors())
        self._lease = lease
        await self._write(holder=self._settings.identity, epoch=epoch, taking=True)
        self.leading = True

    async def _read(self) -> Object:
        """The Lease; empty if there is none."""
        try:
            return await self._api.request("GET", self._path, at_once=True)
        except ApiRefused as refusal:
            if refusal.status != _NOT_FOUND:
                raise
            return {}

    def _look_at(self, lease: Object) -> None:
        spec = lease.get("spec", {})
        record = (
            spec.get("holderIdentity") or "",
            spec.get("renewTime") or "",
            lease.get("metadata", {}).get("resourceVersion", ""),
        )
        if self._seen is None or self._seen.record != record:
            self._seen = _Seen(record, time.monotonic())

    def _held(self, lease: Object) -> bool:
        """Whether somebody else may still be leading."""
        spec = lease.get("spec", {})
        holder = spec.get("holderIdentity")
        if not holder or holder == self._settings.identity or self._seen is None:
            return False
        duration = float(spec.get("leaseDurationSeconds") or self._settings.duration_seconds)
        return time.monotonic() < self._seen.since + duration

    async def _highest_of_doors(self) -> int:
        try:
            async with asyncio.timeout(self._settings.doors_seconds):
                return await self._doors()
        except (DoorError, TimeoutError) as error:
            _log.warning("doors did not tell their epoch", why=str(error) or "timeout")
            return 0

    # ── Keeping ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _renew_while_leading(self) -> str:
        problem = ""
        while self.leading:
            left = self._renewed + self._settings.renew_seconds - time.monotonic()
            if left <= 0:
                return f"no renewal for {self._settings.renew_seconds:g} s; last problem: {problem or 'a blocked loop'}"
            try:
                async with asyncio.timeout(left):
                    await self._write(holder=self._settings.identity, epoch=self.epoch)
            except LeaseLost as error:
                return error.message
            except Exception as error:  # noqa: BLE001 - whatever hinders a renewal counts as a failed one
                problem = str(error) or type(error).__name__
                _log.warning("lease not renewed", why=problem)
            await self._pause()
        return "released"

    async def _write(self, *, holder: str, epoch: int, taking: bool = False) -> None:
        async with self._writing:
            if not taking and not self.leading:
                raise LeaseLost("we do not lead")
            sent = time.monotonic()
            try:
                self._lease = await self._send(self._body(holder=holder, epoch=epoch, taking=taking))
            except ApiRefused as refusal:
                if refusal.status not in {_CONFLICT, _NOT_FOUND} or taking:
                    raise
                # Somebody wrote. If it is still ours (an annotation, say), the next try goes from there.
                self._lease = await self._api.request("GET", self._path, at_once=True)
                now_holder = self._lease.get("spec", {}).get("holderIdentity")
                if now_holder != self._settings.identity:
                    raise LeaseLost(f"the Lease is held by {now_holder or 'nobody'}") from refusal
                self._lease = await self._send(self._body(holder=holder, epoch=epoch, taking=False))
            self._renewed = sent
            self.epoch = epoch

    async def _send(self, body: Object) -> Object:
        if body["metadata"].get("resourceVersion"):
            return await self._api.request("PUT", self._path, body=body, at_once=True)
        return await self._api.request("POST", self._path.rpartition("/")[0], body=body, at_once=True)

    def _body(self, *, holder: str, epoch: int, taking: bool) -> Object:
        before = self._lease.get("spec", {})
        metadata = self._lease.get("metadata", {})
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        transitions = int(before.get("leaseTransitions") or 0) + (1 if taking and metadata else 0)
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self._settings.name,
                "namespace": self._settings.namespace,
                "annotations": {**(metadata.get("annotations") or {}), EPOCH: str(epoch)},
                **({"resourceVersion": metadata["resourceVersion"]} if metadata else {}),
            },
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": self._settings.duration_seconds if holder else 1,
                "acquireTime": now if taking else before.get("acquireTime", now),
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }

    async def _pause(self) -> None:
        await asyncio.sleep(self._settings.retry_seconds * (1 + _JITTER * random.random()))  # noqa: S311 - jitter

    @property
    def _path(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self._settings.namespace}/leases/{self._settings.name}"


def epoch_of(lease: Object) -> int:
    """The epoch a Lease tells; 0 if none."""
    text = lease.get("metadata", {}).get("annotations", {}).get(EPOCH, "0")
    return int(text) if text.isdecimal() else 0
