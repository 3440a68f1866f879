"""Engine logs from a real node agent through its door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest

from roadstead.adapters.agents.doors import AgentDoors
from roadstead.adapters.agents.logs import AgentLogs
from roadstead.domain.engine_log import EngineLog
from roadstead.ports import DoorError
from tests.contract.doors.conftest import Operator
from tests.fixtures.node_agent import TOKEN, node_agent

pytestmark = pytest.mark.contract
LOG = EngineLog(node="node-a", slot="team.model.0a1b2c3d.node-a", index=0)


@dataclass
class Agent:
    logs: AgentLogs
    file: Path


@pytest.fixture
async def agent(operator: Operator, tmp_path: Path) -> AsyncIterator[Agent]:
    operator.token_file.write_text(TOKEN)
    async with node_agent(tmp_path) as running:
        operator.lists(agents={"node-a": running.url})
        folder = running.settings.store / "logs"
        folder.mkdir()
        async with AgentDoors(directory=operator.directory, **operator.given()) as doors:
            yield Agent(doors.logs, folder / f"{LOG.slot}.0.log")


async def read(agent: Agent, log: EngineLog = LOG, *, lines: int = 10) -> list[str]:
    async with aclosing(agent.logs.lines(log, lines=lines, follow=False)) as told:
        return [line async for line in told]


async def test_logs_are_listed_and_read_in_whole_lines(agent: Agent) -> None:
    agent.file.write_bytes("eins\nzwei é\r\n\xff\nno end".encode("latin-1"))
    assert await agent.logs.listed("node-a") == (
        EngineLog(node="node-a", slot=LOG.slot, index=0, bytes=agent.file.stat().st_size),
    )
    assert await read(agent) == ["eins", "zwei �", "�", "no end"]
    assert await read(agent, lines=1) == ["no end"]


async def test_a_line_without_end_is_told_in_pieces(agent: Agent) -> None:
    agent.file.write_text("x" * 40_000 + "\n")
    pieces = await read(agent)
    assert "".join(pieces) == "x" * 40_000
    assert max(map(len, pieces)) <= 16_384 + 65_536


async def test_new_lines_are_followed(agent: Agent) -> None:
    async with asyncio.timeout(20), aclosing(agent.logs.lines(LOG, lines=10, follow=True)) as told:
        for text in ("1", "2"):
            with agent.file.open("a") as file:
                file.write(f"{text}\n")
            assert await anext(told) == text


async def test_what_cannot_be_read_says_why(agent: Agent, operator: Operator) -> None:
    with pytest.raises(DoorError) as error:
        await read(agent)
    assert error.value.code == "LogNotFound"
    for log in (EngineLog(node="nowhere", slot="s", index=0), EngineLog(node="node-a", slot="../x", index=0)):
        with pytest.raises(DoorError):
            await read(agent, log)
    operator.token_file.write_text("wrong")
    with pytest.raises(DoorError) as refused:
        await read(agent)
    assert refused.value.code == "Unauthorized"
    operator.token_file.unlink()
    with pytest.raises(DoorError) as closed:
        await read(agent)
    assert closed.value.code == "AgentUnavailable"
