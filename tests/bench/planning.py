"""Apply → planned: from creating a LocalModel until its status says, for this generation, where it was placed.

Objects come one at a time. Every other one fits nowhere, so that both answers are measured; one that is placed starts
an engine, is deleted, and must be gone before the next one comes.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import Any

from roadstead.embedded.fleet import Fleet
from roadstead.embedded.kube_door import KubeDoor, open_door
from tests.bench.figures import Figure, say
from tests.bench.fleet import local_model, path_of
from tests.fixtures.patience import found

OBJECTS = 12
_TOO_MANY_SEQUENCES = 64
_POLL_SECONDS = 0.01
_PLANNED_SECONDS = 20.0
_GONE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Planning:
    """Seconds from apply to planned, one for each object."""

    placed: tuple[float, ...]
    refused: tuple[float, ...]

    def figures(self) -> tuple[Figure, ...]:
        every = (*self.placed, *self.refused)
        behind = f"placed {statistics.median(self.placed):.2f} s, fits nowhere {statistics.median(self.refused):.2f} s"
        return (
            Figure(f"apply → planned, median of {len(every)}", f"{statistics.median(every):.2f} s", "≤ 1 s", behind),
            Figure(f"apply → planned, slowest of {len(every)}", f"{max(every):.2f} s", "≤ 1 s"),
        )


async def measure_planning(fleet: Fleet) -> Planning:
    """Apply, wait, delete, again and again."""
    found_: dict[bool, list[float]] = {True: [], False: []}
    async with open_door(fleet.home.kubeconfig) as kube:
        for number in range(OBJECTS):
            fits = number % 2 == 0
            seconds = await _one(kube, f"plan-{number}", concurrency=1 if fits else _TOO_MANY_SEQUENCES)
            found_[fits].append(seconds)
            say(f"apply → planned: {seconds:.2f} s ({'placed' if fits else 'fits nowhere'})")
    return Planning(tuple(found_[True]), tuple(found_[False]))


async def _one(kube: KubeDoor, name: str, *, concurrency: int) -> float:
    context = 512 if concurrency == 1 else 8192
    started = time.perf_counter()
    await kube.apply(path_of(name), local_model(name, context_tokens=context, concurrency=concurrency))
    while not _planned(await kube.get(path_of(name)) or {}):
        if time.perf_counter() - started > _PLANNED_SECONDS:
            raise RuntimeError(f"{name} was not planned within {_PLANNED_SECONDS:.0f} s")
        await asyncio.sleep(_POLL_SECONDS)
    seconds = time.perf_counter() - started
    await kube.delete(path_of(name))

    async def gone() -> bool | None:
        return True if await kube.get(path_of(name)) is None else None

    await found(gone, f"{name} is gone", seconds=_GONE_SECONDS)
    return seconds


def _planned(body: dict[str, Any]) -> bool:
    status = body.get("status", {})
    if status.get("observedGeneration") != body.get("metadata", {}).get("generation"):
        return False
    placed = [row["status"] for row in status.get("conditions", []) if row["type"] == "Placed"]
    return placed in (["True"], ["False"])
