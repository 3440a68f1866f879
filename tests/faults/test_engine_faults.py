"""An engine or a replica dies, hangs, or is left alone by its client, on a whole fleet whose parts are real.

A client asks ten times a second meanwhile. Only what was under way may fail; nothing that begins afterwards does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil
import pytest

from tests.faults.rig.pair import pair, steadily_asked, until_another, until_asked, until_both_serve, until_busy
from tests.fixtures.embedded_fleet import EmbeddedFleet
from tests.fixtures.figures import Say
from tests.fixtures.steady_client import SteadyClient

pytestmark = pytest.mark.faults

BACK_SECONDS: Final = 60.0
LEFT_SECONDS: Final = 2.0
"""From a client's leaving to an engine that has stopped its work."""
LONG: Final = 900
"""Tokens: more than ten seconds of work."""


@pytest.fixture(scope="module")
def braved(fleet: EmbeddedFleet) -> Iterator[str]:
    """A model with a replica on each of the two nodes."""
    with pair(fleet, "braved") as name:
        yield name


def _tell(client: SteadyClient, say: Say, *, since: float, back: float) -> None:
    asked = client.asked(since=since)
    say(
        f"back after {back:.1f} s; {len(asked)} asked since, {len(client.retried(since=since))} tried again by the "
        f"client, slowest {max(one.seconds for one in asked):.1f} s; "
        f"{len(client.failures())} failed that were under way"
    )


async def _suffers(
    fleet: EmbeddedFleet, name: str, folder: Path, say: Say, *, how: signal.Signals, replica: bool
) -> None:
    """One engine, or the replica that owns it, gets a signal; the other never notices."""
    await until_both_serve(fleet, name, seconds=BACK_SECONDS)
    (slot, pid), (other, untouched) = fleet.engines(name).items()
    owner = psutil.Process(pid).parent()
    assert owner is not None
    async with steadily_asked(fleet, name, folder) as client:
        since = time.time()
        os.kill(owner.pid if replica else pid, how)
        await until_another(fleet, name, slot, pid, seconds=BACK_SECONDS)
        await until_both_serve(fleet, name, seconds=BACK_SECONDS)
        back = time.time() - since
        await until_asked(client, 30, since=time.time())
    _tell(client, say, since=since, back=back)
    assert client.failures(since=since) == []
    assert back <= BACK_SECONDS
    assert not psutil.pid_exists(pid)
    assert fleet.engines(name)[other] == untouched


async def test_an_engine_that_is_killed_costs_nobody_who_asks_afterwards(
    fleet: EmbeddedFleet, braved: str, tmp_path: Path, say: Say
) -> None:
    await _suffers(fleet, braved, tmp_path, say, how=signal.SIGKILL, replica=False)


async def test_a_replica_that_is_killed_takes_its_engine_along_and_is_replaced(
    fleet: EmbeddedFleet, braved: str, tmp_path: Path, say: Say
) -> None:
    await _suffers(fleet, braved, tmp_path, say, how=signal.SIGKILL, replica=True)


async def test_an_engine_that_hangs_is_ended_and_replaced(
    fleet: EmbeddedFleet, braved: str, tmp_path: Path, say: Say
) -> None:
    await _suffers(fleet, braved, tmp_path, say, how=signal.SIGSTOP, replica=False)


async def test_without_any_engine_the_answer_is_clear_and_service_comes_back_by_itself(
    fleet: EmbeddedFleet, braved: str, say: Say
) -> None:
    await until_both_serve(fleet, braved, seconds=BACK_SECONDS)
    engines = fleet.engines(braved)
    for pid in engines.values():
        os.kill(pid, signal.SIGKILL)

    first = await fleet.ask(braved)
    began = time.monotonic()
    await fleet.answers(braved, seconds=BACK_SECONDS)
    say(f"{first.status} at first, an answer after {time.monotonic() - began:.1f} s")

    assert first.status in (200, 503)
    if first.status == 503:
        assert first.body["error"]["code"] == "model_not_ready"
        assert int(first.headers["retry-after"]) >= 1
    await until_both_serve(fleet, braved, seconds=BACK_SECONDS)
    assert set(fleet.engines(braved)) == set(engines)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole answer"])
async def test_a_client_that_leaves_ends_the_engine_s_work(
    fleet: EmbeddedFleet, braved: str, stream: bool, say: Say
) -> None:
    await until_both_serve(fleet, braved, seconds=BACK_SECONDS)
    engines = fleet.engines(braved)
    await until_busy(engines, busy=False, seconds=BACK_SECONDS)
    began = time.monotonic()
    await _long_question(fleet, braved, stream=stream)
    undisturbed = time.monotonic() - began
    asking = asyncio.create_task(_long_question(fleet, braved, stream=stream))
    await until_busy(engines, busy=True, seconds=10)
    assert not asking.done()

    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    took = await until_busy(engines, busy=False, seconds=BACK_SECONDS)

    say(f"the engine stopped {took:.2f} s after its client had left; undisturbed it works {undisturbed:.1f} s")
    assert undisturbed > 2 * LEFT_SECONDS, "it would have stopped by then anyway"
    assert took <= LEFT_SECONDS


async def _long_question(fleet: EmbeddedFleet, model: str, *, stream: bool) -> None:
    """Something that takes much longer than the test; cancelling it closes the connection."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": "Count to a thousand."}],
        "max_tokens": LONG,
        "stream": stream,
        "ignore_eos": True,
    }
    headers = {"Authorization": f"Bearer {fleet.fleet.api_key}"}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session,
        session.post(f"{fleet.fleet.gateway_url}/v1/chat/completions", json=body, headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
        await answer.read()
