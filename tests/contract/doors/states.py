"""States that doors tell."""

from __future__ import annotations

from typing import Any

from roadstead.adapters.cells.serve_config import rendered
from roadstead.domain.model import ModelKey
from roadstead.domain.slot import Shape, Slot
from roadstead_worker.contract import (
    ApplicationState,
    CellState,
    EngineOffer,
    Hardware,
    LeaseState,
    Measurement,
    Memory,
    NodeState,
    Problem,
    ReplicaState,
    WeightPhase,
    WeightState,
    WorkerState,
)
from tests.contract.postgres.ledger_values import a_content

DIGEST = "sha256:" + "a" * 64


def a_node(digest: str = "one", *, free: int = 4 << 30, epoch: int = 3) -> NodeState:
    return NodeState(
        digest=digest,
        epoch=epoch,
        node="node-a",
        cores=4,
        hardware=Hardware(cores=8, memory_bytes=16 << 30, isa=("avx2",)),
        memory=Memory(budget_bytes=8 << 30, free_bytes=free),
        disk_free_bytes=100 << 30,
        engines=(EngineOffer(engine="LlamaCpp", image="xllamacpp@1"),),
        weights=(
            WeightState(digest=DIGEST, phase=WeightPhase.READY, bytes_total=10, bytes_done=10),
            WeightState(
                digest="sha256:" + "b" * 64,
                phase=WeightPhase.FAILED,
                bytes_total=10,
                bytes_done=3,
                problem=Problem(code="SourceNotFound", message="gone"),
            ),
        ),
        leases=(
            LeaseState(slot="s", index=0, content="c", bytes_granted=100, bytes_measured=0),
            LeaseState(slot="s", index=1, content="c", bytes_granted=100, bytes_measured=120),
        ),
        measurements=(
            Measurement(content="c", slot="s", memory_bytes=110, load_seconds=1.0),
            Measurement(content="c", slot="t", memory_bytes=120, load_seconds=1.0),
        ),
    )


def a_slot(letter: str = "a", *, node: str = "node-a", replicas: int = 1, attempt: int = 0, release: int = 1) -> Slot:
    return Slot(
        model=ModelKey("team-a", "assistant"),
        release=release,
        content=a_content(letter),
        node=node,
        shape=Shape(threads=4),
        replicas=replicas,
        memory_bytes=1 << 30,
        attempt=attempt,
    )


def an_application(
    slot: Slot, *, config: dict[str, Any] | None = None, status: str = "RUNNING", ready: int = 1
) -> ApplicationState:
    return ApplicationState(
        name=slot.name,
        status=status,
        addresses=tuple(f"127.0.0.10:{30000 + index}" for index in range(ready)),
        replicas=tuple(ReplicaState(id=f"r{index}", state="RUNNING") for index in range(ready)),
        config=rendered(slot) if config is None else config,
    )


def a_cell(
    digest: str = "one",
    *applications: ApplicationState,
    base: str = "base-1",
    reachable: bool = True,
    epoch: int = 3,
) -> CellState:
    return CellState(
        digest=digest,
        epoch=epoch,
        cell="cell-1",
        base=base,
        reachable=reachable,
        nodes=("node-a",),
        workers=(WorkerState(node="node-a", image="0123456789ab"),),
        applications=applications,
    )
