"""What a replica holds before its engine may start: a device group of its slot, and memory the node agent has granted.

Both are waited for, without end. A replica that failed instead would be replaced by one that fails likewise, and Ray
does not try an identical configuration again: measured, one engine death led to six failed replicas in a row while
the old one still drained. Who waits says so in the log, and the operator sees the replica in STARTING.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import aiohttp
import structlog
from pydantic import ValidationError

from roadstead_worker.contract import LeaseGrant, LeaseMemory, LeaseRequest, Measurement, Problem, Wire
from roadstead_worker.lease_file import AGENT_SOCKET, ClaimedLease, claim

Held = TypeVar("Held")

_FIRST_WAIT_SECONDS: Final = 0.2
_LONGEST_WAIT_SECONDS: Final = 3.0
_WORD_EVERY_SECONDS: Final = 30.0
_ASKING: Final = aiohttp.ClientTimeout(total=30.0)

log = structlog.get_logger(__name__)


class NotYet(Exception):
    """Not now; the message says why. Asking again is the remedy."""


class AgentSocket:
    """The node agent's door for replicas: a unix socket in the node's store."""

    def __init__(self, store: Path) -> None:
        self._path = store / AGENT_SOCKET

    async def lease(self, request: LeaseRequest) -> LeaseGrant:
        """Raises ``NotYet`` when the agent refuses or is away."""
        status, body = await self._post("/leases", request.model_dump_json())
        try:
            if status == 200:
                return LeaseGrant.model_validate_json(body)
            problem = Problem.model_validate_json(body)
        except ValidationError as error:
            raise NotYet(f"the node agent's answer ({status}) is not understood: {error}") from error
        raise NotYet(f"{problem.code}: {problem.message}")

    async def report(self, measurement: Measurement) -> None:
        """Raises ``NotYet`` when the agent does not take it."""
        await self._tell("/measurements", measurement)

    async def report_memory(self, memory: LeaseMemory) -> None:
        """Raises ``NotYet`` when the agent does not take it."""
        await self._tell("/leases/memory", memory)

    async def _tell(self, path: str, news: Wire) -> None:
        status, body = await self._post(path, news.model_dump_json())
        if status != 204:
            raise NotYet(f"the node agent answered {status}: {body[:500].decode(errors='replace')}")

    async def _post(self, path: str, body: str) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._path)), timeout=_ASKING) as session,
                session.post(f"http://agent{path}", data=body, headers=headers) as answer,
            ):
                return answer.status, await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NotYet(f"the node agent does not answer at {self._path}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedGroup:
    """A device group with memory: all that an engine needs to start."""

    lease: ClaimedLease
    devices: tuple[str, ...]
    """Ids of the accelerators that memory was granted on."""
    grant: LeaseGrant


async def granted_group(
    agent: AgentSocket,
    store: Path,
    *,
    slot: str,
    groups: Callable[[], int],
    request: Callable[[int], LeaseRequest],
) -> GrantedGroup:
    """One of the slot's device groups, as soon as one is free, with memory, as soon as the node agent grants it.

    ``groups`` is asked each time: the number may change. ``request`` tells what a group needs. A slot that has lost the
    group meanwhile may have another that is free.
    """
    while True:
        lease = await _claimed_group(store, slot=slot, groups=groups)
        try:
            granted = await _granted_memory(agent, lease, groups=groups, request=request)
        except BaseException:
            lease.release()
            raise
        if granted is not None:
            return granted
        lease.release()


async def _claimed_group(store: Path, *, slot: str, groups: Callable[[], int]) -> ClaimedLease:
    async def attempt() -> ClaimedLease:
        try:
            lease = claim(store, slot, groups())
        except OSError as error:
            raise NotYet(f"the store cannot be used: {error}") from error
        if lease is None:
            raise NotYet(f"none of the slot's {groups()} device groups is free, an older replica may still be draining")
        return lease

    return await _waited_for(attempt, slot=slot, what="device group")


async def _granted_memory(
    agent: AgentSocket, lease: ClaimedLease, *, groups: Callable[[], int], request: Callable[[int], LeaseRequest]
) -> GrantedGroup | None:
    """None if the slot no longer has the group that was claimed."""

    async def attempt() -> GrantedGroup | None:
        if lease.index >= groups():
            return None
        asked = request(lease.index)
        return GrantedGroup(lease=lease, devices=asked.devices, grant=await agent.lease(asked))

    return await _waited_for(attempt, slot=lease.slot, what="memory lease")


async def _waited_for(attempt: Callable[[], Awaitable[Held]], *, slot: str, what: str) -> Held:
    loop = asyncio.get_running_loop()
    since = loop.time()
    next_word = since
    wait_seconds = _FIRST_WAIT_SECONDS
    while True:
        try:
            held = await attempt()
        except NotYet as reason:
            if loop.time() >= next_word:
                log.warning("waiting", what=what, slot=slot, seconds=round(loop.time() - since), reason=str(reason))
                next_word = loop.time() + _WORD_EVERY_SECONDS
        else:
            return held
        await asyncio.sleep(wait_seconds)
        wait_seconds = min(_LONGEST_WAIT_SECONDS, wait_seconds * 1.5)
