"""One simulated machine: its memory, its weights, and its agent's state.

The rules are those of the real agent: memory is granted only while it is free, a fetch that runs is not begun again, an
artifact that a lease uses is not removed, and an older epoch is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from roadstead.domain.release import Artifact
from roadstead_worker.agent.door import DoorProblem
from roadstead_worker.agent.epoch import EpochFile
from roadstead_worker.agent.longpoll import PublishedState
from roadstead_worker.contract import (
    NODE_LONG_POLL_SECONDS,
    EngineOffer,
    Hardware,
    LeaseState,
    Memory,
    NodeState,
    Problem,
    WeightPhase,
    WeightState,
)
from tests.simulation.catalogue import found_behind
from tests.simulation.line import Line
from tests.simulation.pace import Pace

ENGINE = EngineOffer(engine="LlamaCpp", image="xllamacpp==1")
_DISK_BYTES = 1 << 40


class MemoryEpoch(EpochFile):
    """The agents' own rule, without a file: a thousand doors would sync a thousand of them."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"))

    def _write(self, epoch: int) -> None:
        """Nothing of a simulation outlives it."""


@dataclass(frozen=True, slots=True)
class HeldLease:
    """Memory of one replica."""

    slot: str
    index: int
    content: str
    artifact: str
    bytes: int


@dataclass(slots=True, kw_only=True)
class SimulatedNode:
    """One machine and its agent."""

    name: str
    budget: int
    """Bytes for engines."""
    cores: int
    address: str
    """Where its replicas are said to listen."""
    pace: Pace
    foreign: int = 0
    """Bytes in use by others."""
    alive: bool = True
    broken: set[str] = field(default_factory=set)
    """Digests of artifacts whose engine does not start here."""
    weights: dict[str, WeightState] = field(default_factory=dict)
    leases: dict[tuple[str, int], HeldLease] = field(default_factory=dict)
    line: Line = field(default_factory=Line)
    epoch: MemoryEpoch = field(default_factory=MemoryEpoch)
    published: PublishedState[NodeState] = field(
        default_factory=lambda: PublishedState(wait_seconds=NODE_LONG_POLL_SECONDS)
    )
    freed: Callable[[], None] = lambda: None
    """Told when memory came free."""

    @property
    def free(self) -> int:
        """What its agent would grant now."""
        return max(0, self.budget - self.foreign - sum(lease.bytes for lease in self.leases.values()))

    def publish(self) -> None:
        """Tell what is."""
        self.published.publish(
            NodeState(
                digest="",
                epoch=self.epoch.current,
                node=self.name,
                cores=self.cores,
                hardware=Hardware(cores=self.cores, memory_bytes=self.budget, isa=("avx2",), machine="x86_64"),
                memory=Memory(budget_bytes=self.budget, free_bytes=self.free),
                disk_free_bytes=_DISK_BYTES,
                engines=(ENGINE,),
                weights=tuple(self.weights.values()),
                leases=tuple(
                    LeaseState(slot=held.slot, index=held.index, content=held.content, bytes_granted=held.bytes)
                    for held in self.leases.values()
                ),
            )
        )

    # --- what the operator says ---

    def resolve(self, source: str, digest: str | None) -> Artifact:
        """What is behind the source. Raises ``DoorProblem``."""
        found = found_behind(source)
        if found is None:
            raise DoorProblem(status=404, code="SourceNotFound", message=f"{source} is not there", field=source)
        if digest not in (None, found.digest):
            raise DoorProblem(status=422, code="DigestMismatch", message=f"{source} is {found.digest}", field=source)
        return found

    def fetch(self, digest: str, source: str, size: int) -> WeightState:
        """Begin to fetch unless that is under way or done."""
        known = self.weights.get(digest)
        if known is not None and known.phase is not WeightPhase.FAILED:
            return known
        there = found_behind(source) is not None
        state = WeightState(
            digest=digest,
            phase=WeightPhase.FETCHING if there else WeightPhase.FAILED,
            bytes_total=size,
            bytes_done=0,
            problem=None if there else Problem(code="SourceNotFound", message=f"{source} is not there"),
        )
        self.weights[digest] = state
        if there:
            asyncio.get_running_loop().call_later(self.pace.fetch, self._fetched, state)
        self.publish()
        return state

    def forget(self, digest: str) -> None:
        """Remove the artifact. Raises ``DoorProblem`` while a lease uses it."""
        user = next((held.slot for held in self.leases.values() if held.artifact == digest), None)
        if user is not None:
            raise DoorProblem(status=409, code="ArtifactInUse", message=f"{digest} is used by {user}", field=user)
        self.weights.pop(digest, None)
        self.publish()

    # --- what replicas do ---

    def grant(self, wanted: HeldLease) -> bool:
        """Grant the memory if it is free and the artifact is there."""
        weight = self.weights.get(wanted.artifact)
        if not self.alive or weight is None or weight.phase is not WeightPhase.READY or wanted.bytes > self.free:
            return False
        self.leases[wanted.slot, wanted.index] = wanted
        self.publish()
        return True

    def end(self, leases: Iterable[tuple[str, int]]) -> None:
        """Engines ended."""
        ended = [self.leases.pop(lease) for lease in leases if lease in self.leases]
        if ended:
            self.publish()
            self.freed()

    def die(self) -> None:
        """The machine is gone with all that ran on it; its store stays."""
        self.alive = False
        self.leases.clear()

    def _fetched(self, begun: WeightState) -> None:
        if self.weights.get(begun.digest) is begun:
            self.weights[begun.digest] = begun.model_copy(
                update={"phase": WeightPhase.READY, "bytes_done": begun.bytes_total}
            )
            self.publish()
            self.freed()
