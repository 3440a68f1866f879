"""A model with a replica on each of the two nodes of an embedded fleet, and its engines."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil

from tests.fixtures.embedded_fleet import EmbeddedFleet
from tests.fixtures.patience import found
from tests.fixtures.steady_client import SteadyClient, steady_client

_GLANCE_SECONDS = 0.25
_BUSY_SHARE = 0.3
"""Of a core. An engine that computes takes all it gets, one that waits takes none."""


@contextlib.contextmanager
def pair(fleet: EmbeddedFleet, name: str) -> Iterator[str]:
    """Both replicas serve when the block begins."""
    fleet.apply(name, {"q4": fleet.weights.q4}, replicas=2, requirements={"contextTokens": 1024, "concurrency": 4})
    asyncio.run(until_both_serve(fleet, name, seconds=120))
    asyncio.run(fleet.answers(name))
    yield name
    fleet.kubectl("delete", "lm", name, "--timeout=60s")


async def until_both_serve(fleet: EmbeddedFleet, name: str, *, seconds: float) -> None:
    """And its status says so."""

    async def look() -> bool | None:
        model = fleet.model(name)
        serve = model is not None and model.is_true("Ready") and model.status.get("readyReplicas") == 2
        return (serve and len(fleet.engines(name)) == 2) or None

    await found(look, f"both replicas of {name} serve", seconds=seconds)


async def until_another(fleet: EmbeddedFleet, name: str, replica: str, pid: int, *, seconds: float) -> int:
    """Pid of the engine that has taken the place of ``pid``."""

    async def look() -> int | None:
        engines = fleet.engines(name)
        return engines.get(replica) if pid not in engines.values() else None

    return await found(look, f"another engine in place of {pid}", seconds=seconds)


@contextlib.asynccontextmanager
async def steadily_asked(fleet: EmbeddedFleet, name: str, folder: Path) -> AsyncIterator[SteadyClient]:
    """Ten times a second; the block begins when twenty were answered."""
    log = folder / "asked.jsonl"
    with steady_client(fleet.fleet.gateway_url, key=fleet.fleet.api_key, model=name, log=log, per_second=10) as client:
        await until_asked(client, 20, since=0.0)
        yield client


async def until_asked(client: SteadyClient, number: int, *, since: float) -> None:
    """So many more requests have ended."""

    async def look() -> bool | None:
        return len(client.asked(since=since)) >= number or None

    await found(look, f"{number} requests have ended", seconds=120)


async def until_busy(engines: dict[str, int], *, busy: bool, seconds: float) -> float:
    """Seconds until some engine computes, or none does, for a whole glance."""
    processes = [psutil.Process(pid) for pid in engines.values()]
    began = time.monotonic()
    while True:
        before, at = _cpu_seconds(processes), time.monotonic()
        await asyncio.sleep(_GLANCE_SECONDS)
        share = (_cpu_seconds(processes) - before) / (time.monotonic() - at)
        if (share > _BUSY_SHARE) == busy:
            return at - began
        assert at - began < seconds, f"{share:.0%} of a core is used, still {'not ' if busy else ''}busy"


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)
