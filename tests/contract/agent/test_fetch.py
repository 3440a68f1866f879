"""Bringing weights to a node over HTTP, from servers that do what servers do."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic

import pytest

from roadstead_worker.contract import WeightPhase
from tests.fixtures.gguf_files import Gguf
from tests.fixtures.model_host import Fault, ModelHost, model_host
from tests.fixtures.node_agent import NodeAgent, node_agent

pytestmark = pytest.mark.contract
CONTENT = Gguf().bytes() + os.urandom(3 * 1024 * 1024)
READY, FAILED = WeightPhase.READY, WeightPhase.FAILED


async def fetch(agent: NodeAgent, host: ModelHost, *phases: WeightPhase, digest: str | None = None) -> WeightPhase:
    wanted = digest or host.digest
    answer = await agent.fetch(host.url, wanted, len(host.content))
    assert answer.status == 202, answer
    return (await agent.weight(wanted, *(phases or (READY, FAILED)))).phase


def shape(host: ModelHost) -> list[str]:
    """The requests: from the beginning (empty), or from about where it broke.

    Not from the very byte, because a broken connection takes with it what the client had not read yet.
    """
    begins = [asked.removeprefix("bytes=").removesuffix("-") for asked in host.ranges]
    return ["resumed" if begin and 1_000_000 <= int(begin) <= 1_500_000 else begin for begin in begins]


def blob(agent: NodeAgent, digest: str) -> Path:
    return agent.settings.store / "blobs" / "sha256" / digest.removeprefix("sha256:")


def partials(agent: NodeAgent) -> list[str]:
    return [path.name for path in (agent.settings.store / "partial").iterdir()]


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([], [""]),
        ([Fault(close_after=1_500_000)], ["", "resumed"]),
        ([Fault(stall_after=1_500_000)], ["", "resumed"]),
        ([Fault(close_after=1_500_000), Fault(ignore_range=True)], ["", "resumed"]),
        ([Fault(close_after=1_500_000), Fault(status=503), Fault(status=429)], ["", *["resumed"] * 3]),
        ([Fault(close_after=1_500_000), Fault(wrong_range=True)], ["", "resumed", ""]),
        ([Fault(close_after=1_500_000), Fault(status=416)], ["", "resumed", ""]),
        ([Fault(status=500), Fault(status=500)], ["", "", ""]),
    ],
    ids=["none", "closed early", "stalled", "no ranges any more", "busy", "another range", "range refused", "errors"],
)
async def test_a_fetch_survives_faults_that_pass_and_goes_on_where_it_broke(
    tmp_path: Path, faults: list[Fault], ranges: list[str]
) -> None:
    async with node_agent(tmp_path) as agent, model_host(CONTENT) as host:
        host.faults(*faults)
        assert await fetch(agent, host) is READY
        assert blob(agent, host.digest).read_bytes() == CONTENT
        assert shape(host) == ranges
        assert partials(agent) == []


async def test_a_file_that_changes_while_it_is_fetched_is_begun_again(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent, model_host(CONTENT) as host:
        host.faults(Fault(close_after=1_500_000))
        digest = host.digest
        real_send = host._send

        async def change_after_the_first(*args: object, **kwargs: object) -> object:
            response = await real_send(*args, **kwargs)  # type: ignore[arg-type]
            host.etag = '"second"'
            return response

        host._send = change_after_the_first  # type: ignore[method-assign,assignment]
        assert await fetch(agent, host, digest=digest) is READY
        assert shape(host) == ["", "resumed"]
        assert host.sent == 1_500_000 + len(CONTENT), "with If-Range the server sends all of the new file"


async def test_flipped_bytes_never_become_a_blob(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent, model_host(CONTENT) as host:
        host.faults(Fault(flip=True))
        assert await fetch(agent, host) is FAILED
        state = await agent.weight(host.digest, FAILED)
        assert state.problem is not None
        assert (state.problem.code, host.digest in state.problem.message) == ("DigestMismatch", True)
        assert not blob(agent, host.digest).exists()
        assert partials(agent) == []


async def test_a_resumed_part_that_was_bad_is_fetched_once_more_from_its_beginning(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent, model_host(CONTENT) as host:
        host.faults(Fault(close_after=1_500_000), Fault(flip=True))
        assert await fetch(agent, host) is READY
        assert shape(host) == ["", "resumed", ""]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(status=404), "SourceNotFound"),
        (Fault(status=403), "SourceUnauthorized"),
        (Fault(status=500), "SourceUnavailable"),
        (Fault(redirect="http://169.254.169.254/"), "SourceNotAllowed"),
    ],
)
async def test_a_failed_fetch_says_why_and_is_tried_again_only_when_asked(
    tmp_path: Path, fault: Fault, code: str
) -> None:
    async with node_agent(tmp_path) as agent, model_host(CONTENT) as host:
        host.faults(*[fault] * 50)
        assert await fetch(agent, host) is FAILED
        state = await agent.weight(host.digest, FAILED)
        assert state.problem is not None
        assert state.problem.code == code
        requests = len(host.ranges)
        for _ in range(20):
            assert (await agent.fetch(host.url, host.digest, len(CONTENT))).body["phase"] == "Failed"
        assert len(host.ranges) == requests, "a loop of requests within the backoff is harmless"
        host.faults()
        other = host.url + "?mirror=2"
        assert (await agent.fetch(other, host.digest, len(CONTENT))).body["phase"] == "Fetching"
        await agent.weight(host.digest, READY)


async def test_after_the_backoff_the_same_source_is_tried_again(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent, model_host(CONTENT) as host:
        host.faults(Fault(status=404))
        assert await fetch(agent, host) is FAILED
        deadline = monotonic() + 15
        while (await agent.fetch(host.url, host.digest, len(CONTENT))).body["phase"] == "Failed":
            assert monotonic() < deadline
        await agent.weight(host.digest, READY)


async def test_a_server_with_another_size_is_another_file(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent, model_host(CONTENT) as host:
        await agent.fetch(host.url, host.digest, len(CONTENT) + 1)
        state = await agent.weight(host.digest, FAILED)
        assert state.problem is not None
        assert state.problem.code == "DigestMismatch"
        assert state.bytes_done == 0


async def test_a_disk_without_room_is_known_before_the_download(tmp_path: Path) -> None:
    async with node_agent(tmp_path, disk_reserve_bytes=2**62) as agent, model_host(CONTENT) as host:
        assert await fetch(agent, host) is FAILED
        state = await agent.weight(host.digest, FAILED)
        assert state.problem is not None
        assert state.problem.code == "InsufficientDisk"
        assert str(len(CONTENT)) in state.problem.message


async def test_a_deleted_fetch_stops_and_leaves_nothing(tmp_path: Path) -> None:
    async with node_agent(tmp_path, http_stall_seconds=30.0) as agent, model_host(CONTENT) as host:
        host.faults(Fault(stall_after=1_500_000))
        await agent.fetch(host.url, host.digest, len(CONTENT))
        state = await agent.state()
        while not any(weight.bytes_done for weight in state.weights):
            state = await agent.state(state.digest)
        assert (await agent.ask("DELETE", f"/weights/{host.digest}", epoch=1)).status == 204
        assert (await agent.state()).weights == ()
        assert partials(agent) == []


async def test_a_part_survives_the_agent_and_is_resumed_by_the_next(tmp_path: Path) -> None:
    store = tmp_path / "s"
    store.mkdir()
    async with model_host(CONTENT) as host:
        host.faults(Fault(stall_after=1_500_000))
        async with node_agent(tmp_path, store=store, http_stall_seconds=30.0) as agent:
            await agent.fetch(host.url, host.digest, len(CONTENT))
            state = await agent.state()
            while not any(weight.bytes_done for weight in state.weights):
                state = await agent.state(state.digest)
        kept = next((store / "partial").glob("*.part")).stat().st_size
        assert 0 < kept <= 1_500_000
        async with node_agent(tmp_path, store=store) as agent:
            assert await fetch(agent, host) is READY
            assert host.ranges[1:] == [f"bytes={kept}-"]
            assert blob(agent, host.digest).read_bytes() == CONTENT
