"""What changes and what breaks, seen by clients: a rollout, a killed engine, a restarted gateway, a killed operator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest

from tests.fixtures.embedded_fleet import NAMESPACE, EmbeddedFleet
from tests.fixtures.patience import found

pytestmark = [pytest.mark.integration, pytest.mark.engines]

NAME = "disturbed"


@pytest.fixture(scope="module")
def disturbed(fleet: EmbeddedFleet, anchor: str) -> Iterator[str]:
    fleet.apply(NAME, {"q4": fleet.weights.q4}, requirements={"contextTokens": 1024})
    asyncio.run(fleet.until_model(NAME, "Ready"))
    asyncio.run(fleet.answers(NAME))
    yield NAME
    fleet.kubectl("delete", "lm", NAME, "--timeout=60s")


@dataclass(slots=True)
class Client:
    """Asks without a pause."""

    releases: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    asked: int = 0


@contextlib.asynccontextmanager
async def _asking(fleet: EmbeddedFleet, name: str) -> AsyncIterator[Client]:
    client = Client()

    async def ask() -> None:
        while True:
            reply = await fleet.ask(name, max_tokens=16)
            client.asked += 1
            client.releases.add(reply.headers.get("x-roadstead-release", ""))
            if reply.status != 200:
                client.failures.append(f"{reply.status} {json.dumps(reply.body)}")

    task = asyncio.create_task(ask())
    try:
        yield client
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_changed_context_rolls_over_without_a_failed_request(fleet: EmbeddedFleet, disturbed: str) -> None:
    (old,) = fleet.engines(disturbed)
    async with _asking(fleet, disturbed) as client:
        patch = {"spec": {"requirements": {"contextTokens": 1536}}}
        await _kubectl(fleet, "patch", "lm", disturbed, "--type=merge", "--patch", json.dumps(patch))
        await found(lambda: _replaced(fleet, disturbed, old), "one engine, another than before", seconds=60)
        await found(lambda: _answered_by(client, "2"), "an answer of the new release", seconds=20)
    assert client.failures == []
    assert client.releases == {"1", "2"}
    model = await fleet.until_model(disturbed, "Ready")
    assert model.status["release"]["number"] == 2
    assert [slot["releases"] for slot in model.slots] == [[2]]


async def test_a_killed_engine_is_serving_again_from_the_same_replica(fleet: EmbeddedFleet, disturbed: str) -> None:
    replicas = await _replicas(fleet, disturbed)
    (pid,) = fleet.engines(disturbed).values()
    os.kill(pid, signal.SIGKILL)

    async def another() -> int | None:
        engines = list(fleet.engines(disturbed).values())
        return engines[0] if engines not in ([], [pid]) else None

    assert await found(another, "an engine in its place", seconds=30) != pid
    assert (await fleet.answers(disturbed, seconds=30)).text
    assert await _replicas(fleet, disturbed) == replicas
    await fleet.until_model(disturbed, "Ready")


async def test_a_restarted_gateway_goes_on_answering(fleet: EmbeddedFleet, anchor: str) -> None:
    await _restart(fleet, "gateway", signal.SIGTERM)
    assert (await fleet.answers(anchor, seconds=20)).text


async def test_a_killed_operator_comes_back_and_restarts_nothing(fleet: EmbeddedFleet, anchor: str) -> None:
    engines, replicas = fleet.engines(anchor), await _replicas(fleet, anchor)
    await _restart(fleet, "operator", signal.SIGKILL)
    assert (await fleet.answers(anchor)).text
    fleet.kubectl("patch", "lm", anchor, "--type=merge", "--patch", '{"spec": {"aliases": ["also-anchor"]}}')
    assert (await fleet.answers("also-anchor", seconds=60)).text
    assert fleet.engines(anchor) == engines
    assert await _replicas(fleet, anchor) == replicas
    assert (await fleet.until_model(anchor, "Ready")).status["release"]["number"] == 1


async def _kubectl(fleet: EmbeddedFleet, *arguments: str) -> None:
    """Beside a client that asks meanwhile."""
    await asyncio.to_thread(fleet.kubectl, *arguments)


async def _replaced(fleet: EmbeddedFleet, name: str, old: str) -> bool | None:
    engines = fleet.engines(name)
    return (len(engines) == 1 and old not in engines) or None


async def _answered_by(client: Client, release: str) -> bool | None:
    return release in client.releases or None


async def _replicas(fleet: EmbeddedFleet, name: str) -> set[str]:
    applications = (await fleet.cell()).applications
    prefix = f"{NAMESPACE}.{name}."
    return {replica.id for each in applications if each.name.startswith(prefix) for replica in each.replicas}


async def _restart(fleet: EmbeddedFleet, process: str, number: signal.Signals) -> None:
    before = fleet.process(process)
    os.kill(before, number)

    async def another() -> int | None:
        return fleet.process(process) if fleet.process(process) not in (0, before) else None

    await found(another, f"another {process}", seconds=60)
