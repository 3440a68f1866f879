"""Requests at a replica's own port: when it is not ready yet, when it is full or to end, when their client left."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fixtures.patience import found, until
from tests.ray.serve_hand import SHUTDOWN_SECONDS, ServeHand, pids, plain

pytestmark = pytest.mark.ray


async def test_a_replica_is_told_as_a_target_only_once_reconfigure_has_returned(
    serve: ServeHand, journal: Path
) -> None:
    slow = plain("slow", args={"journal": str(journal)}, user_config={"seconds": 4})
    await serve.put(slow)
    waiting = await serve.until(
        lambda _: journal.exists() and "reconfigure" in journal.read_text(), "its reconfigure has begun"
    )
    assert not waiting["slow"].addresses
    assert waiting["slow"].status == "DEPLOYING"
    await serve.until(lambda seen: seen["slow"].addresses, "its address is told")


async def test_a_path_of_no_application_is_404_in_words_that_begin_with_path(serve: ServeHand) -> None:
    """By which the gateway tells a port that another replica has now from an answer of the engine's."""
    states = await serve.serving(plain("a"))
    status, kind, text = await serve.raw(f"http://{states['a'].addresses[0]}/s/b/told")
    assert (status, kind) == (404, "text/plain")
    assert text.startswith("Path ")
    status, *_ = await serve.raw(f"http://{states['a'].addresses[0]}/s/another/told")
    assert status == 200, "it comes to a replica whose prefix only begins like it: the replica must look"
    async with serve.request(states["a"], "no/such/thing") as own:
        assert (own.status, await own.text()) == (404, "no such thing here")


async def test_a_client_that_leaves_ends_the_work_on_its_request(serve: ServeHand) -> None:
    states = await serve.serving(plain("a"))
    async with serve.request(states["a"], "stream?tenths=600", seconds=60) as answer:
        assert await answer.content.readline() == b"0\n"
        assert (await serve.ask(states["a"]))["working"] == 1

    async def idle() -> dict[str, Any] | None:
        told = await serve.ask(states["a"])
        return None if told["working"] else told

    told = await found(idle, "the replica works no more", seconds=2)
    assert told["left"] == 1


async def test_a_full_replica_lets_some_wait_and_refuses_the_rest_at_once(serve: ServeHand, journal: Path) -> None:
    """Whoever has just come counts as waiting until it has its place, so the first two are let in first."""
    full = plain("full", max_ongoing_requests=2, max_queued_requests=2, args={"journal": str(journal)})
    states = await serve.serving(full)
    clock = asyncio.get_running_loop().time

    async def answer() -> tuple[int, float]:
        began = clock()
        async with serve.request(states["full"], "work?seconds=2", seconds=30) as answer:
            said = await answer.text()
            if answer.status == 503:
                assert said.startswith("Request dropped due to backpressure")
                assert answer.content_type == "text/plain"
            return answer.status, clock() - began

    async with asyncio.TaskGroup() as tasks:
        first = [tasks.create_task(answer()) for _ in range(2)]
        await until(lambda: journal.read_text().count("work") == 2, "two are at work")
        later = [tasks.create_task(answer()) for _ in range(5)]
    assert [task.result()[0] for task in first] == [200, 200]
    assert sorted(task.result()[0] for task in later) == [200, 200, 503, 503, 503]
    for status, seconds in (task.result() for task in later):
        assert seconds < 2 if status == 503 else seconds > 2


async def test_a_replica_that_is_to_end_finishes_what_takes_less_than_its_time(serve: ServeHand, journal: Path) -> None:
    states = await serve.serving(plain("a", args={"journal": str(journal)}))
    async with serve.request(states["a"], f"stream?tenths={SHUTDOWN_SECONDS * 10 - 20}", seconds=60) as answer:
        await answer.content.readline()
        await serve.put()
        await serve.until(lambda seen: "a" not in seen or not seen["a"].addresses, "no new request goes there")
        lines = (await answer.read()).split()
    assert lines[-1] == b"%d" % (SHUTDOWN_SECONDS * 10 - 21)
    await serve.until(lambda seen: not seen, "it is gone")
    pid = next(iter(pids(states["a"])))
    assert journal.read_text().split("\n")[-3:] == [f"streamed {pid}", f"end {pid}", ""], "the engine ends after them"


async def test_what_takes_longer_is_cut(serve: ServeHand) -> None:
    """Ray ends the replica; how its client sees that is the replica's to say."""
    states = await serve.serving(plain("a"))
    async with serve.request(states["a"], f"stream?tenths={SHUTDOWN_SECONDS * 10 + 200}", seconds=60) as answer:
        await answer.content.readline()
        await serve.put()
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    await serve.until(lambda seen: not seen, "it is gone")
