"""The node agent hands out what its engines said, to the operator and to nobody else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from roadstead_worker.agent import engine_logs
from tests.fixtures.node_agent import NodeAgent, node_agent
from tests.fixtures.patience import found, until

pytestmark = pytest.mark.contract
SLOT = "team.model.0a1b2c3d.node-a"


def log_of(agent: NodeAgent, index: int = 0) -> Path:
    folder = agent.settings.store / "logs"
    folder.mkdir(exist_ok=True)
    return folder / f"{SLOT}.{index}.log"


async def read(agent: NodeAgent, path: str) -> tuple[int, str]:
    async with agent.operator.get(agent.url + path) as answer:
        return answer.status, await answer.text()


async def test_the_last_lines_of_a_log_are_told_and_all_logs_are_listed(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent:
        log_of(agent).write_text("1\n2\n3\n")
        log_of(agent, 1).write_text("other\n")
        assert await read(agent, f"/logs/{SLOT}?lines=2") == (200, "2\n3\n")
        assert await read(agent, f"/logs/{SLOT}?index=1") == (200, "other\n")
        listed = (await agent.ask("GET", "/logs")).body["files"]
        assert [(file["slot"], file["index"], file["bytes"]) for file in listed] == [(SLOT, 0, 6), (SLOT, 1, 6)]


async def test_new_lines_come_as_they_are_written_and_over_a_rotation(tmp_path: Path) -> None:
    async with (
        node_agent(tmp_path) as agent,
        asyncio.timeout(20),
        agent.operator.get(f"{agent.url}/logs/{SLOT}?follow=true") as answer,
    ):
        assert answer.status == 200  # there is no such log yet: it is waited for
        log_of(agent).write_text("1\n")
        assert await answer.content.readline() == b"1\n"
        log_of(agent).replace(log_of(agent).with_name(f"{SLOT}.0.log.1"))
        log_of(agent).write_text("2\n")
        assert await answer.content.readline() == b"2\n"


async def test_a_reader_whose_caller_has_gone_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_logs, "STREAMS_LIMIT", 1)
    async with node_agent(tmp_path) as agent, asyncio.timeout(20):
        log_of(agent).write_text("1\n")
        async with agent.operator.get(f"{agent.url}/logs/{SLOT}?follow=true") as answer:
            assert await answer.content.readline() == b"1\n"
            refused = await agent.ask("GET", f"/logs/{SLOT}")
            assert (refused.status, refused.code) == (429, "TooManyStreams")
            answer.close()

        async def free() -> str | None:
            status, text = await read(agent, f"/logs/{SLOT}")
            return text if status != 429 else None

        assert await found(free, "the reader has ended") == "1\n"


async def test_an_agent_that_stops_does_not_wait_for_those_who_follow(tmp_path: Path) -> None:
    async with asyncio.timeout(4), aiohttp.ClientSession() as session:
        async with node_agent(tmp_path) as agent:
            log_of(agent).write_text("1\n")
            bearer = {"Authorization": "Bearer the-door-token"}
            answer = await session.get(f"{agent.url}/logs/{SLOT}?follow=true", headers=bearer)
            assert await answer.content.readline() == b"1\n"
        assert await answer.content.read() == b""


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"/logs/{SLOT}", 404, "LogNotFound"),
        (f"/logs/{SLOT}?index=1", 404, "LogNotFound"),
        ("/logs/..%2F..%2Fetc%2Fpasswd", 400, "InvalidRequest"),
        ("/logs/a..b", 400, "InvalidRequest"),
        (f"/logs/{SLOT}?index=-1", 400, "InvalidRequest"),
        (f"/logs/{SLOT}?index=10000", 400, "InvalidRequest"),
        (f"/logs/{SLOT}?lines=10001", 400, "InvalidRequest"),
        (f"/logs/{SLOT}?lines=many", 400, "InvalidRequest"),
        (f"/logs/{SLOT}?follow=perhaps", 400, "InvalidRequest"),
    ],
)
async def test_what_cannot_be_read_is_refused(path: str, status: int, code: str, tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent:
        answer = await agent.ask("GET", path)
        assert (answer.status, answer.code) == (status, code)


async def test_nobody_reads_a_log_without_the_bearer(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent, aiohttp.ClientSession() as stranger:
        for path in ("/logs", f"/logs/{SLOT}"):
            async with stranger.get(agent.url + path) as answer:
                assert answer.status == 401
        assert (await agent.ask_as_replica(f"/logs/{SLOT}", {})).status == 404


async def test_logs_of_slots_that_are_gone_are_pruned_when_the_agent_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_logs, "KEPT_BYTES", 0)
    store = tmp_path / "s"
    (store / "logs").mkdir(parents=True)
    (store / "logs" / f"{SLOT}.0.log").write_text("1\n")
    async with node_agent(tmp_path, store=store):
        await until(lambda: not list((store / "logs").iterdir()), "the log is gone")
