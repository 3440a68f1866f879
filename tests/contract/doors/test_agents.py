"""Node agents: what they tell is followed, what they are told arrives once, and silence is not mistaken for news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from roadstead.adapters.agents.doors import AgentDoors
from roadstead.domain.snapshot import (
    AgentFacts,
    EngineBuild,
    Known,
    Lease,
    Part,
    ResolutionKey,
    Resolved,
    Resolving,
    Stale,
    Unknown,
    Unresolved,
    WeightPhase,
)
from roadstead.ports import DoorError, FencedError
from roadstead_worker.contract import FetchRequest, Progress, Resolution, ResolveRequest
from tests.contract.doors.conftest import Operator
from tests.contract.doors.scripted_door import ScriptedDoor
from tests.contract.doors.states import DIGEST, a_node
from tests.contract.postgres.ledger_values import a_content
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract

ARTIFACT = a_content("a").artifact
KEY = ResolutionKey(node="node-a", source="file:///models/a.gguf", digest=None)


@pytest.fixture
async def agents(operator: Operator, door: ScriptedDoor) -> AsyncIterator[AgentDoors]:
    operator.lists(agents={"node-a": door.url})
    async with AgentDoors(directory=operator.directory, **operator.given()) as agents:
        yield agents


def free(part: Part[AgentFacts]) -> int | None:
    return part.value.free_bytes if isinstance(part, Known) else None


async def test_what_an_agent_tells_becomes_facts(agents: AgentDoors, door: ScriptedDoor) -> None:
    assert agents.facts() == {"node-a": Unknown("not asked yet")}
    door.publish(a_node())
    await until(lambda: isinstance(agents.facts()["node-a"], Known), "the agent is known")
    part = agents.facts()["node-a"]
    assert isinstance(part, Known)
    facts = part.value
    assert (facts.cores, facts.isa, facts.budget_bytes, facts.free_bytes) == (4, ("avx2",), 8 << 30, 4 << 30)
    assert facts.engines == (EngineBuild(engine="LlamaCpp", image="xllamacpp@1"),)
    assert facts.leases == (Lease(slot="s", index=0, bytes=100), Lease(slot="s", index=1, bytes=120))
    assert facts.measured_bytes == (("c", 120),)
    assert [(weight.phase, weight.code) for weight in facts.weights] == [
        (WeightPhase.READY, ""),
        (WeightPhase.FAILED, "SourceNotFound"),
    ]
    assert agents.highest_epoch() == 3


async def test_news_pokes_and_repetition_does_not(agents: AgentDoors, door: ScriptedDoor, operator: Operator) -> None:
    door.publish(a_node("one"))
    await until(lambda: operator.pokes == ["agent node-a"], "the first poke")
    await until(lambda: door.waiting == 1 and door.after[-1] == "one", "it waits for the next state")
    door.publish(a_node("two", free=1 << 30))
    await until(lambda: free(agents.facts()["node-a"]) == 1 << 30, "the news")
    assert operator.pokes == ["agent node-a"] * 2
    await until(lambda: door.waiting == 1 and door.after[-1] == "two", "it waits again")
    door.fails("cut")
    await until(lambda: door.after[-1] == "", "after a failure it asks without waiting")
    door.fails(None)
    await until(lambda: door.waiting == 1 and door.after[-1] == "two", "it waits again")
    assert operator.pokes == ["agent node-a"] * 2


@pytest.mark.parametrize("fault", ["cut", "garbage"])
async def test_a_door_that_fails_is_stale_after_60_seconds_and_known_again_at_its_first_answer(
    fault: str, agents: AgentDoors, door: ScriptedDoor, operator: Operator
) -> None:
    door.publish(a_node())
    await until(lambda: isinstance(agents.facts()["node-a"], Known), "the agent is known")
    answered = operator.now
    door.fails(fault)
    operator.passes(60)
    assert isinstance(agents.facts()["node-a"], Known)
    operator.passes(1)
    part = agents.facts()["node-a"]
    assert isinstance(part, Stale)
    assert part.since == answered
    await until(lambda: operator.pokes == ["agent node-a"] * 2, "the loop hears of the silence")
    door.fails(None)
    await until(lambda: isinstance(agents.facts()["node-a"], Known), "the agent is known again")
    assert operator.pokes == ["agent node-a"] * 3


async def test_a_door_that_never_answered_is_unknown_and_says_why(
    agents: AgentDoors, door: ScriptedDoor, operator: Operator
) -> None:
    door.fails("cut")
    operator.token_file.write_text("wrong")
    await until(lambda: len(door.after) > 2, "it asks again")
    door.fails(None)
    door.publish(a_node())
    await until(lambda: agents.facts()["node-a"] == Unknown("no"), "the refusal")
    operator.token_file.write_text("")
    await until(lambda: "is empty" in getattr(agents.facts()["node-a"], "why", ""), "the missing token")


async def test_the_directory_is_followed(agents: AgentDoors, door: ScriptedDoor, operator: Operator) -> None:
    door.publish(a_node())
    await until(lambda: isinstance(agents.facts()["node-a"], Known), "the agent is known")
    async with ScriptedDoor() as other:
        other.publish(a_node("elsewhere", free=1))
        operator.lists(agents={"node-a": other.url, "node-b": door.url})
        await until(lambda: free(agents.facts()["node-a"]) == 1, "node-a at its new address")
        await until(lambda: "node-b" in agents.facts() and free(agents.facts()["node-b"]) == 4 << 30, "node-b")
        operator.file.write_text("{half a fi")
        operator.file.unlink()
        assert set(agents.facts()) == {"node-a", "node-b"}
        operator.lists(agents={"node-b": door.url})
        await until(lambda: set(agents.facts()) == {"node-b"}, "node-a is forgotten")


async def test_resolving_answers_with_whatever_is_known(
    agents: AgentDoors, door: ScriptedDoor, operator: Operator
) -> None:
    door.answers(Progress(bytes_total=10, bytes_done=4), 202)
    assert await agents.resolve(KEY) == Resolving(bytes_total=10, bytes_done=4)
    door.answers(Resolution(source=KEY.source, digest=DIGEST, bytes=1000, facts=ARTIFACT.facts))
    assert await agents.resolve(KEY) == Resolved(artifact=ARTIFACT)
    door.refuses(422, "CorruptHeader")
    assert await agents.resolve(KEY) == Unresolved(code="CorruptHeader", message="as the script says", at=operator.now)
    assert ResolveRequest.model_validate_json(door.requests[0].body) == ResolveRequest(source=KEY.source)
    assert [request.epoch for request in door.requests] == [None] * 3


@pytest.mark.parametrize("fault", ["cut", "closed", "unlisted", "bad digest"])
async def test_resolving_never_raises(fault: str, agents: AgentDoors, door: ScriptedDoor, operator: Operator) -> None:
    key = KEY
    match fault:
        case "closed":
            await door.close()
        case "unlisted":
            key = ResolutionKey(node="nowhere", source=KEY.source, digest=None)
        case "bad digest":
            key = ResolutionKey(node="node-a", source=KEY.source, digest="../../etc")
        case _:
            door.fails(fault)
    answer = await agents.resolve(key)
    assert isinstance(answer, Unresolved)
    assert (answer.code, answer.at) == ("InvalidSpec" if fault == "bad digest" else "AgentUnavailable", operator.now)


async def test_writes_carry_the_epoch(agents: AgentDoors, door: ScriptedDoor) -> None:
    door.answers(None, 202)
    await agents.fetch("node-a", artifact=ARTIFACT, source="file:///models/a.gguf")
    door.answers(None, 204)
    await agents.forget("node-a", digest=DIGEST)
    put, delete = door.requests
    assert (put.method, put.path, put.epoch) == ("PUT", f"/weights/{DIGEST}", "7")
    assert FetchRequest.model_validate_json(put.body) == FetchRequest(source="file:///models/a.gguf", bytes=1000)
    assert (delete.method, delete.path, delete.epoch) == ("DELETE", f"/weights/{DIGEST}", "7")


async def test_an_artifact_that_is_not_there_is_forgotten_and_one_in_use_is_not(
    agents: AgentDoors, door: ScriptedDoor
) -> None:
    door.refuses(404, "NotFound")
    await agents.forget("node-a", digest=DIGEST)
    door.refuses(409, "ArtifactInUse")
    with pytest.raises(DoorError, match="ArtifactInUse"):
        await agents.forget("node-a", digest=DIGEST)


async def test_nothing_but_a_digest_becomes_part_of_a_path(agents: AgentDoors, door: ScriptedDoor) -> None:
    for digest in ("sha256:../../etc", DIGEST + "/..", "", DIGEST.upper(), DIGEST + "\n"):
        with pytest.raises(DoorError):
            await agents.forget("node-a", digest=digest)
    assert door.requests == []


async def test_a_door_that_has_seen_a_higher_epoch_fences_us(agents: AgentDoors, door: ScriptedDoor) -> None:
    door.refuses(409, "StaleEpoch", epoch=12)
    with pytest.raises(FencedError) as fenced:
        await agents.fetch("node-a", artifact=ARTIFACT, source="s")
    assert fenced.value.epoch == 12
    assert agents.highest_epoch() == 12


async def test_a_cancelled_write_leaves_the_door_usable(agents: AgentDoors, door: ScriptedDoor) -> None:
    door.hold = asyncio.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await agents.forget("node-a", digest=DIGEST)
    door.hold = None
    door.answers(None, 204)
    await agents.forget("node-a", digest=DIGEST)
