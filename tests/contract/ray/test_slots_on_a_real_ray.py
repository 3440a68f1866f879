"""Slots of a real Ray cell through a real head agent: two are put once, and every test looks at them or disturbs them.

The order matters and is the file's: what disturbs most comes last.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from roadstead_worker.contract import (
    REPLICA_HEADER,
    SLOT_DEPLOYMENT,
    SLOT_IMPORT_PATH,
    ApplicationState,
    ConfigAccepted,
    Problem,
    SlotArgs,
    SlotUserConfig,
    WorkerState,
)
from tests.fixtures.head_door import HeadDoor
from tests.fixtures.patience import until
from tests.fixtures.ray_cell import RayCell

pytestmark = [pytest.mark.contract, pytest.mark.engines]

ARTIFACT = "sha256:" + "a" * 64
BROKEN = "sha256:" + "b" * 64


def slot(name: str, node: str, *, replicas: int = 1, artifact: str = ARTIFACT) -> dict[str, Any]:
    """An application as the operator puts it."""
    args = SlotArgs(
        slot=name,
        model=f"team/{name}",
        variant="q4",
        node=node,
        content="c0ffee",
        artifact=artifact,
        engine="LlamaCpp",
        engine_image="xllamacpp",
        served_name=name,
        context_tokens=512,
        concurrency=2,
        threads=1,
    )
    return {
        "name": name,
        "route_prefix": f"/s/{name}",
        "import_path": SLOT_IMPORT_PATH,
        "args": args.model_dump(mode="json"),
        "deployments": [
            {
                "name": SLOT_DEPLOYMENT,
                "num_replicas": replicas,
                "max_ongoing_requests": 2,
                "max_queued_requests": 8,
                "graceful_shutdown_timeout_s": 30,
                "health_check_period_s": 2,
                "health_check_timeout_s": 10,
                "max_surge_percent": 0,
                "ray_actor_options": {"num_cpus": 0, "label_selector": {"roadstead.dev/node": node}},
                "user_config": SlotUserConfig(release=1, memory_bytes=200 << 20, groups=replicas).model_dump(),
            }
        ],
    }


TWO = [slot("alpha", "node-a"), slot("beta", "node-b")]


def serving(applications: dict[str, ApplicationState], *names: str) -> bool:
    return all(name in applications and applications[name].addresses for name in names)


@pytest.fixture
async def door(ray_cell: RayCell) -> AsyncIterator[HeadDoor]:
    async with HeadDoor(ray_cell.door, ray_cell.secret("door"), epoch=5) as opened:
        yield opened


@pytest.fixture
async def two(door: HeadDoor) -> dict[str, ApplicationState]:
    """``alpha`` on node-a and ``beta`` on node-b, serving."""
    state = await door.state()
    if {each.name: each.config for each in state.applications} != {each["name"]: each for each in TWO}:
        assert isinstance(await door.put(TWO), ConfigAccepted)
    return await door.until(
        lambda seen: serving(seen, "alpha", "beta") and len(seen) == 2, within_seconds=60, what="both slots serve"
    )


@pytest.fixture
async def client(ray_cell: RayCell) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={REPLICA_HEADER: ray_cell.secret("replica")}) as session:
        yield session


def chat(application: ApplicationState) -> str:
    return f"http://{application.addresses[0]}/s/{application.name}/v1/chat/completions"


def question(*, stream: bool = False, tokens: int = 8) -> dict[str, Any]:
    """Answered with exactly this many tokens: a small model would now and then say no more than a smile."""
    messages = [{"role": "user", "content": "Say hello."}]
    return {"messages": messages, "max_tokens": tokens, "stream": stream, "temperature": 0, "ignore_eos": True}


async def answers(client: aiohttp.ClientSession, application: ApplicationState) -> bool:
    try:
        async with client.post(chat(application), json=question()) as answer:
            return answer.status == 200 and bool((await answer.json())["choices"])
    except aiohttp.ClientError:
        return False


async def eventually(condition: Callable[[], bool], *, within_seconds: float) -> None:
    async with asyncio.timeout(within_seconds):
        while not condition():  # noqa: ASYNC110 - other processes set no event of ours
            await asyncio.sleep(0.02)


async def until_answers(client: aiohttp.ClientSession, application: ApplicationState, *, within_seconds: float) -> None:
    async with asyncio.timeout(within_seconds):
        while not await answers(client, application):  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.05)


async def test_a_new_cell_has_no_applications_and_tells_the_labels_of_its_nodes(door: HeadDoor) -> None:
    async with asyncio.timeout(60):
        state = await door.state()
        while state.nodes != ("node-a", "node-b"):
            state = await door.state(state.digest)
    assert state.workers == (WorkerState(node="node-a"), WorkerState(node="node-b", image="0123456789ab"))
    assert state.applications == ()
    assert state.reachable


async def test_two_slots_that_are_put_serve_and_the_base_is_what_was_accepted(
    door: HeadDoor, ray_cell: RayCell
) -> None:
    accepted = await door.put(TWO)
    assert isinstance(accepted, ConfigAccepted), accepted
    seen = await door.until(lambda seen: serving(seen, "alpha", "beta"), within_seconds=90, what="both slots serve")
    assert (await door.state()).base == accepted.base
    assert {name: each.config for name, each in seen.items()} == {each["name"]: each for each in TWO}
    assert all(each.addresses[0].startswith(ray_cell.replica_host) for each in seen.values())


async def test_a_replica_answers_and_streams_on_its_own_port(
    two: dict[str, ApplicationState], client: aiohttp.ClientSession
) -> None:
    assert await answers(client, two["alpha"])
    async with client.post(chat(two["beta"]), json=question(stream=True)) as answer:
        assert answer.content_type == "text/event-stream"
        events = [line async for line in answer.content if line.startswith(b"data: ")]
    assert events[-1] == b"data: [DONE]\n"
    assert len(events) > 5
    assert "timings" in json.loads(events[-2][6:])


async def test_a_caller_without_the_secret_is_refused(two: dict[str, ApplicationState]) -> None:
    async with aiohttp.ClientSession() as stranger, stranger.post(chat(two["alpha"]), json=question()) as answer:
        assert answer.status == 401


async def test_an_engine_sees_no_token_and_its_measurement_reaches_the_agent(
    two: dict[str, ApplicationState], ray_cell: RayCell
) -> None:
    (engine,) = ray_cell.engines("alpha")
    environment = Path(f"/proc/{engine}/environ").read_text()
    assert "TOKEN" not in environment
    measurement = ray_cell.nodes["node-a"].agent.measurements[-1]
    assert measurement.memory_bytes > 90 << 20
    assert measurement.tokens_per_second is not None
    agent = ray_cell.nodes["node-a"].agent

    def told() -> int:
        return max((each.bytes for each in list(agent.memory) if each.slot == "alpha"), default=0)

    await until(lambda: told() > 90 << 20, "the engine's memory is told", seconds=60)


async def test_the_same_configuration_again_restarts_nothing(
    two: dict[str, ApplicationState], door: HeadDoor, ray_cell: RayCell
) -> None:
    before = ray_cell.engines("alpha") | ray_cell.engines("beta")
    accepted = await door.put(TWO)
    assert isinstance(accepted, ConfigAccepted)
    after = await door.until(
        lambda seen: serving(seen, "alpha", "beta") and all(a.status == "RUNNING" for a in seen.values()),
        within_seconds=30,
        what="both run",
    )
    assert {name: each.replicas for name, each in after.items()} == {name: each.replicas for name, each in two.items()}
    assert ray_cell.engines("alpha") | ray_cell.engines("beta") == before


async def test_a_changed_user_config_reaches_the_replica_and_restarts_nothing(
    two: dict[str, ApplicationState], door: HeadDoor, ray_cell: RayCell
) -> None:
    before = ray_cell.engines("alpha")
    changed = slot("alpha", "node-a")
    changed["deployments"][0]["user_config"]["release"] = 2
    assert isinstance(await door.put([changed, TWO[1]]), ConfigAccepted)
    await door.until(
        lambda seen: (
            seen["alpha"].config == changed
            and seen["alpha"].status == "RUNNING"
            and all(replica.state == "RUNNING" for replica in seen["alpha"].replicas)
        ),
        within_seconds=30,
        what="the change is in force",
    )
    assert ray_cell.engines("alpha") == before
    assert isinstance(await door.put(TWO), ConfigAccepted)


async def test_a_leader_that_was_replaced_is_refused(two: dict[str, ApplicationState], door: HeadDoor) -> None:
    refused = await door.put([], epoch=4)
    assert isinstance(refused, Problem)
    assert (refused.code, refused.epoch) == ("StaleEpoch", 5)


async def test_a_plan_on_another_base_is_refused(two: dict[str, ApplicationState], door: HeadDoor) -> None:
    refused = await door.put([], base="sha256:" + "0" * 64)
    assert isinstance(refused, Problem)
    assert refused.code == "BaseChanged"


async def test_a_key_that_ray_would_drop_silently_is_refused(two: dict[str, ApplicationState], door: HeadDoor) -> None:
    mistyped = slot("alpha", "node-a")
    mistyped["deployments"][0]["max_ongoing_request"] = 3
    refused = await door.put([mistyped, TWO[1]])
    assert isinstance(refused, Problem)
    assert (refused.code, refused.field) == ("ConfigInvalid", "applications.0.deployments.0.max_ongoing_request")


async def test_a_client_that_leaves_frees_the_engine(
    two: dict[str, ApplicationState], client: aiohttp.ClientSession
) -> None:
    for _ in range(2):  # both sequences of the engine
        async with client.post(chat(two["alpha"]), json=question(stream=True, tokens=400)) as answer:
            await answer.content.readline()
    async with asyncio.timeout(2):
        assert await answers(client, two["alpha"])


async def test_a_killed_engine_is_restarted_by_the_same_replica(
    two: dict[str, ApplicationState], door: HeadDoor, client: aiohttp.ClientSession, ray_cell: RayCell
) -> None:
    (engine,) = ray_cell.engines("alpha")
    os.kill(engine, signal.SIGKILL)
    await until_answers(client, two["alpha"], within_seconds=20)
    assert ray_cell.engines("alpha") not in (set(), {engine})
    (alpha,) = (each for each in (await door.state()).applications if each.name == "alpha")
    assert alpha.replicas == two["alpha"].replicas


async def test_a_stream_whose_engine_dies_ends_with_an_error_and_no_finish(
    two: dict[str, ApplicationState], client: aiohttp.ClientSession, ray_cell: RayCell
) -> None:
    (engine,) = ray_cell.engines("beta")
    async with client.post(chat(two["beta"]), json=question(stream=True, tokens=400)) as answer:
        await answer.content.readline()
        os.kill(engine, signal.SIGKILL)
        events = [line async for line in answer.content if line.startswith(b"data: ")]
    assert json.loads(events[-1][6:])["error"]["code"] == "EngineUnavailable"
    assert b"data: [DONE]\n" not in events
    await until_answers(client, two["beta"], within_seconds=20)


async def test_a_killed_replica_takes_its_engine_with_it_and_another_serves(
    two: dict[str, ApplicationState], door: HeadDoor, client: aiohttp.ClientSession, ray_cell: RayCell
) -> None:
    (engine,) = ray_cell.engines("beta")
    (replica,) = two["beta"].replicas
    os.kill(replica.pid, signal.SIGKILL)
    await eventually(lambda: engine not in ray_cell.engines("beta"), within_seconds=2)
    after = await door.until(
        lambda seen: serving(seen, "beta") and replica.id not in {each.id for each in seen["beta"].replicas},
        within_seconds=60,
        what="another replica serves",
    )
    await until_answers(client, after["beta"], within_seconds=5)


async def test_a_replica_without_a_lease_waits_and_its_address_is_told_within_a_second_of_ray(
    two: dict[str, ApplicationState], door: HeadDoor, ray_cell: RayCell
) -> None:
    agent = ray_cell.nodes["node-a"].agent
    agent.refused.add("gamma")
    assert isinstance(await door.put([*TWO, slot("gamma", "node-a")]), ConfigAccepted)
    await eventually(lambda: sum(each.slot == "gamma" for each in agent.requests) >= 3, within_seconds=60)
    (gamma,) = (each for each in (await door.state()).applications if each.name == "gamma")
    assert (gamma.status, gamma.addresses) == ("DEPLOYING", ())

    async def ray_tells() -> float:
        headers = {"Authorization": f"Bearer {ray_cell.secret('ray')}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                async with session.get(f"{ray_cell.dashboard}/api/serve/applications/") as answer:
                    groups = (await answer.json())["target_groups"]
                targets = [target for each in groups if each["app_name"] == "gamma" for target in each["targets"]]
                if any("gamma" in target["name"] for target in targets):
                    return time.monotonic()
                await asyncio.sleep(0.1)

    agent.refused.clear()
    async with asyncio.timeout(60):
        ray_told = asyncio.create_task(ray_tells())
        await door.until(lambda seen: serving(seen, "gamma"), within_seconds=60, what="gamma serves")
        told = time.monotonic()
        lag = told - await ray_told
    assert lag < 1.5
    assert isinstance(await door.put(TWO), ConfigAccepted)


async def test_a_slot_whose_file_is_broken_fails_with_the_engines_own_words(
    two: dict[str, ApplicationState], door: HeadDoor, ray_cell: RayCell, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUX" + bytes(100))
    ray_cell.nodes["node-a"].agent.models[BROKEN] = broken
    delta = slot("delta", "node-a", artifact=BROKEN)
    assert isinstance(await door.put([*TWO, delta]), ConfigAccepted)
    seen = await door.until(
        lambda seen: seen.get("delta") is not None and seen["delta"].status == "DEPLOY_FAILED",
        within_seconds=120,
        what="delta has failed",
    )
    assert "EngineStartFailed" in seen["delta"].message
    assert "invalid magic" in seen["delta"].message
    assert serving(seen, "alpha", "beta")
    assert isinstance(await door.put(TWO), ConfigAccepted)


async def test_a_removed_slot_finishes_its_streams_and_leaves_no_engine(
    two: dict[str, ApplicationState], door: HeadDoor, client: aiohttp.ClientSession, ray_cell: RayCell
) -> None:
    async with client.post(chat(two["beta"]), json=question(stream=True, tokens=300)) as answer:
        events = [await answer.content.readuntil(b"\n\n")]
        accepted = await door.put([])  # not a DELETE of the whole instance: the next PUT works as ever
        assert isinstance(accepted, ConfigAccepted)
        events += (await answer.content.read()).splitlines(keepends=True)
    assert b"data: [DONE]\n" in events
    assert not any(b'"error"' in event for event in events)
    await door.until(lambda seen: not seen, within_seconds=60, what="no application is left")
    assert (await door.state()).base == accepted.base
    assert not ray_cell.engines("alpha") | ray_cell.engines("beta")
    for node in ray_cell.nodes.values():
        assert not list((node.store / "scratch").iterdir())
