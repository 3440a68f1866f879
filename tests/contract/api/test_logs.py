"""Engine logs through the read API: from every node that runs the model, as they come, while somebody reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from roadstead.api import streaming
from roadstead.domain.engine_log import EngineLog
from roadstead.services import model_logs
from tests.fixtures.memory_fleet import MemoryFleet
from tests.fixtures.patience import found, until
from tests.fixtures.read_api import MemoryLogs, ReadApi

pytestmark = pytest.mark.contract
PATH = "/v1/models/team/assistant/logs"
HEADERS = {"X-Roadstead-Api-Token": "the-api-token"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_logs, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(model_logs, "_RETRY_SECONDS", 0.02)


@pytest.fixture
def slots(fleet: MemoryFleet) -> dict[str, EngineLog]:
    """The log of the slot on each node."""
    return {
        app.slot.node: EngineLog(node=app.slot.node, slot=app.slot.name, index=0) for app in fleet.applications.values()
    }


async def read(api: ReadApi, query: str = "") -> list[str]:
    async with api.session.get(f"{api.url}{PATH}{query}", headers=HEADERS) as answer:
        assert (answer.status, answer.content_type) == (200, "text/plain")
        return (await answer.text()).splitlines()


@asynccontextmanager
async def following(api: ReadApi, query: str = "") -> AsyncIterator[aiohttp.StreamReader]:
    async with (
        asyncio.timeout(20),
        api.session.get(f"{api.url}{PATH}?follow=true{query}", headers=HEADERS) as answer,
    ):
        assert answer.status == 200
        yield answer.content


async def test_each_line_has_its_node_and_replica_before_it(
    api: ReadApi, logs: MemoryLogs, slots: dict[str, EngineLog]
) -> None:
    await logs.write(slots["node-a"], "loading", "serving")
    await logs.write(slots["node-b"], "hello")
    assert await read(api) == [
        f"node-a {slots['node-a'].slot}.0 loading",
        f"node-a {slots['node-a'].slot}.0 serving",
        f"node-b {slots['node-b'].slot}.0 hello",
    ]
    assert await read(api, "?lines=1") == [
        f"node-a {slots['node-a'].slot}.0 serving",
        f"node-b {slots['node-b'].slot}.0 hello",
    ]
    assert await read(api, "?lines=0") == []


async def test_an_agent_that_does_not_answer_is_said_and_the_others_are_read(
    api: ReadApi, logs: MemoryLogs, slots: dict[str, EngineLog]
) -> None:
    await logs.write(slots["node-b"], "hello")
    logs.silent.add("node-a")
    assert await read(api) == [
        f"node-b {slots['node-b'].slot}.0 hello",
        f"# {slots['node-a'].label}: AgentUnavailable: the agent of node-a does not answer",
    ]


async def test_new_lines_of_all_nodes_come_as_they_are_written(
    api: ReadApi, logs: MemoryLogs, slots: dict[str, EngineLog]
) -> None:
    await logs.write(slots["node-a"], "1", "2")
    async with following(api, "&lines=1") as lines:
        assert await lines.readline() == f"{slots['node-a'].label} 2\n".encode()
        await logs.write(slots["node-b"], "3")
        assert await lines.readline() == f"{slots['node-b'].label} 3\n".encode()
        await logs.write(slots["node-a"], "4")
        assert await lines.readline() == f"{slots['node-a'].label} 4\n".encode()


async def test_following_goes_with_a_model_that_moves(
    api: ReadApi, logs: MemoryLogs, fleet: MemoryFleet, slots: dict[str, EngineLog]
) -> None:
    async with following(api) as lines:
        await until(lambda: len(logs.following) == 2, "both slots are followed")
        moved = fleet.applications.pop(slots["node-a"].slot)
        await until(lambda: logs.following == [slots["node-b"]], "the slot that left is not")
        fleet.applications[moved.slot.name] = moved
        await logs.write(slots["node-a"], "back again")
        assert await lines.readline() == f"{slots['node-a'].label} back again\n".encode()


async def test_following_goes_on_when_an_agent_has_been_away(
    api: ReadApi, logs: MemoryLogs, slots: dict[str, EngineLog]
) -> None:
    logs.silent.add("node-a")
    async with following(api) as lines:
        assert (await lines.readline()).startswith(f"# {slots['node-a'].label}: AgentUnavailable".encode())
        logs.silent.clear()
        await logs.write(slots["node-a"], "hello")
        assert await lines.readline() == f"{slots['node-a'].label} hello\n".encode()


async def test_a_reader_that_goes_while_nothing_is_said_leaves_nothing_behind(api: ReadApi, logs: MemoryLogs) -> None:
    async with following(api):
        await until(lambda: len(logs.following) == 2, "both slots are followed")
    await until(lambda: logs.following == [], "nobody is followed")


async def test_a_slow_reader_is_waited_for(
    api: ReadApi, logs: MemoryLogs, slots: dict[str, EngineLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0
    lines_of = MemoryLogs.lines

    async def counted(self: MemoryLogs, log: EngineLog, *, lines: int, follow: bool) -> AsyncGenerator[str, None]:
        nonlocal taken
        async for line in lines_of(self, log, lines=lines, follow=follow):
            taken += 1
            yield line

    monkeypatch.setattr(MemoryLogs, "lines", counted)
    await logs.write(slots["node-a"], *("x" * 10_000 for _ in range(10_000)))
    async with following(api, "&lines=10000") as lines:
        assert await lines.readline()
        seen = -1
        while seen != taken:
            seen = taken
            await asyncio.sleep(0.3)  # long enough for all of it, were it not held back
        assert taken < 5_000
        for _ in range(9_999):
            assert (await lines.readline()).endswith(b"x\n")


async def test_logs_of_slots_that_are_gone_are_read_when_asked_for_or_when_there_is_no_other(
    api: ReadApi, logs: MemoryLogs, fleet: MemoryFleet, slots: dict[str, EngineLog]
) -> None:
    gone = EngineLog(node="node-b", slot="team.assistant.0a1b2c3d.node-b", index=1)
    await logs.write(gone, "the end")
    await logs.write(EngineLog(node="node-b", slot="team.assistant-2.0a1b2c3d.node-b", index=0), "another model's")
    await logs.write(slots["node-a"], "now")
    assert await read(api) == [f"{slots['node-a'].label} now"]
    assert await read(api, "?previous=true") == [f"{slots['node-a'].label} now", f"{gone.label} the end"]
    fleet.applications.clear()
    fleet.models.clear()
    assert f"{gone.label} the end" in await read(api)


async def test_more_streams_than_the_limit_are_refused(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    assert streaming.STREAMS_LIMIT == 32
    async with asyncio.timeout(20):
        answers = [
            await api.session.get(f"{api.url}{PATH}?follow=true", headers=HEADERS)
            for _ in range(streaming.STREAMS_LIMIT)
        ]
        status, problem = await api.get(PATH)
        assert (status, problem["code"]) == (429, "TooManyStreams")
        for answer in answers:
            answer.close()

        async def again() -> int | None:
            async with api.session.get(f"{api.url}{PATH}", headers=HEADERS) as answer:
                return answer.status if answer.status != 429 else None

        assert await found(again, "there is room again") == 200
