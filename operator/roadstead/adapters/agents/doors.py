"""Node agents behind their doors: what they tell is followed, what they are told is one idempotent request each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pydantic import ValidationError

from roadstead.adapters.agents.facts import agent_facts, resolved, resolving
from roadstead.adapters.agents.logs import AgentLogs
from roadstead.adapters.directory import AgentDoor, Directory
from roadstead.adapters.doors.caller import DoorCaller, TokenFile
from roadstead.adapters.doors.following import FollowedDoors
from roadstead.adapters.doors.long_poll import long_poll, pause_before_next
from roadstead.adapters.doors.watch import Backoff, DoorKind, DoorWatch
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Artifact
from roadstead.domain.snapshot import AgentFacts, Part, Resolution, ResolutionKey, Unresolved
from roadstead.ports import DoorError
from roadstead_worker.contract import (
    DIGEST_PATTERN,
    NODE_LONG_POLL_SECONDS,
    FetchRequest,
    NodeState,
    Progress,
    ResolveRequest,
)
from roadstead_worker.contract import Resolution as ResolutionAnswer

_FRESH: Final = timedelta(seconds=60)
"""A long poll and its grace fit into it. That a node is gone is told sooner, by the API server."""
_WRITE_SECONDS: Final = 8.0
_RESOLVE_SECONDS: Final = 8.0
_ACCEPTED: Final = 202


@dataclass(frozen=True, slots=True)
class ToldNode:
    """What is kept of an agent's answer."""

    digest: str
    facts: AgentFacts

    @classmethod
    def of(cls, state: NodeState) -> Self:
        return cls(state.digest, agent_facts(state))


class AgentDoors:
    """Answers to the port ``Agents``. Use as an async context."""

    def __init__(
        self,
        *,
        directory: Directory,
        token_file: Path,
        epoch: Callable[[], int],
        clock: Callable[[], datetime],
        poke: Callable[[str], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._clock = clock
        self._caller = DoorCaller(token=TokenFile(token_file), epoch=epoch, unavailable=Reason.AGENT_UNAVAILABLE)
        self.logs = AgentLogs(self._caller, self._url)
        """Answers to the port ``EngineLogs``."""
        kind: DoorKind[ToldNode, AgentFacts] = DoorKind(
            word="agent",
            ask=long_poll(
                self._caller,
                NodeState,
                keep=lambda state, _: ToldNode.of(state),
                kept=ToldNode,
                wait_seconds=NODE_LONG_POLL_SECONDS,
            ),
            understand=lambda told, _: told.facts,
            differs=lambda old, new: old.digest != new.digest,
            pause_seconds=pause_before_next,
            fresh=_FRESH,
        )
        self._doors = FollowedDoors[AgentDoor, ToldNode, AgentFacts](
            lambda: directory.listing().agents,
            lambda name: DoorWatch(kind, name=name, clock=clock, poke=poke, backoff=backoff or Backoff()),
            poke=poke,
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._caller)
        await self._stack.enter_async_context(self._doors)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def facts(self) -> Mapping[str, Part[AgentFacts]]:
        """By node; every node that the directory lists."""
        return {name: watch.part() for name, (_, watch) in self._doors.all().items()}

    def highest_epoch(self) -> int:
        """The highest that any of these doors has told."""
        told = (watch.answer.facts.epoch for _, watch in self._doors.all().values() if watch.answer is not None)
        return max((*told, self._caller.highest_epoch))

    async def resolve(self, key: ResolutionKey) -> Resolution:
        """Never raises: an agent that cannot be asked is ``Unresolved`` with ``AgentUnavailable``."""
        try:
            question = ResolveRequest(source=key.source, digest=key.digest)
            reply = await self._caller.ask(f"{self._url(key.node)}/resolve", question, seconds=_RESOLVE_SECONDS)
            if reply.status == _ACCEPTED:
                return resolving(self._caller.parsed(reply, Progress))
            return resolved(self._caller.parsed(reply, ResolutionAnswer))
        except ValidationError:
            message = f"{key.digest} is no digest: it looks like sha256: and 64 hex digits"
            return Unresolved(code=Reason.INVALID_SPEC, message=message, at=self._clock())
        except DoorError as error:
            return Unresolved(code=error.code, message=error.message, at=self._clock())

    async def fetch(self, node: str, *, artifact: Artifact, source: str) -> None:
        """Have the agent bring the artifact into its store; asking again changes nothing."""
        wanted = FetchRequest(source=source, bytes=artifact.bytes)
        await self._caller.put(self._weights(node, artifact.digest), wanted, seconds=_WRITE_SECONDS)

    async def forget(self, node: str, *, digest: str) -> None:
        """Cancel the fetch or remove the artifact; one that is not there is success."""
        await self._caller.delete(self._weights(node, digest), seconds=_WRITE_SECONDS)

    def _weights(self, node: str, digest: str) -> str:
        # A digest becomes part of a path: nothing but a digest may.
        if not re.fullmatch(DIGEST_PATTERN, digest):
            raise DoorError(Reason.INVALID_SPEC, f"{digest!r} is no digest")
        return f"{self._url(node)}/weights/{digest}"

    def _url(self, node: str) -> str:
        found = self._doors.get(node)
        if found is None:
            raise DoorError(Reason.AGENT_UNAVAILABLE, f"no agent is listed for node {node}")
        if not found[0].url:
            raise DoorError(Reason.AGENT_UNAVAILABLE, f"the agent of node {node} has no address at the moment")
        return found[0].url
