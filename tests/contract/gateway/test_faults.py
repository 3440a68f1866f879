"""Replicas that are away, not ready or slow, clients that leave, and a gateway that is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.fixtures.fake_replica import (
    Behaviour,
    Exchange,
    FakeReplica,
    answers,
    event,
    hangs_up,
    refuses,
    streams,
    waits,
    whole_stream,
)
from tests.fixtures.fake_route_api import slot
from tests.fixtures.free_ports import free_port
from tests.fixtures.gateway import Client, running_gateway
from tests.fixtures.patience import until

pytestmark = [pytest.mark.contract, pytest.mark.asyncio(loop_scope="module")]

_FULL: Behaviour = answers(b"Request dropped due to backpressure", status=503, content_type="text/plain")


@pytest_asyncio.fixture(loop_scope="module")
async def good() -> AsyncIterator[FakeReplica]:
    async with FakeReplica() as fake:
        yield fake


async def test_a_refused_connection_goes_to_another_address(gateway: Client, good: FakeReplica) -> None:
    gateway.route(slot("s1", f"127.0.0.1:{free_port()}", weight=1000), slot("s2", good.address, weight=1))
    for _ in range(3):
        async with gateway.post() as answer:
            assert (answer.status, answer.headers["x-roadstead-node"]) == (200, "node-a")
    # The address that refused is chosen last for a while, so only the first request met it.
    assert (gateway.tally("s1").requests, gateway.tally("s1").errors) == (1, 1)
    assert (gateway.tally("s2").requests, gateway.tally("s2").errors) == (3, 0)


@pytest.mark.parametrize(
    "away",
    [
        refuses(503, message="Loading model"),
        answers(b"Path '/s1/v1/chat/completions' not found. Ping /-/routes.", status=404, content_type="text/plain"),
    ],
    ids=["not ready", "going"],
)
async def test_a_replica_that_is_not_there_yet_or_any_more_is_passed_over(
    gateway: Client, good: FakeReplica, away: Behaviour
) -> None:
    async with FakeReplica(default=away) as other:
        gateway.route(slot("s1", other.address, weight=1000), slot("s2", good.address, weight=1))
        async with gateway.post({"stream": False}) as answer:
            assert answer.status == 200
        assert (len(other.requests), len(good.requests)) == (1, 1)


async def test_when_nobody_can_answer_the_client_is_told_to_come_back(gateway: Client) -> None:
    async with FakeReplica(default=refuses(503)) as one:
        gateway.route(slot("s1", one.address, f"127.0.0.1:{free_port()}"))
        async with gateway.post() as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
            assert (await answer.json())["error"]["code"] == "model_not_ready"
    assert gateway.tally("s1").in_flight == 0


async def test_a_full_queue_is_passed_over_and_is_no_fault_of_its_slot(gateway: Client, good: FakeReplica) -> None:
    async with FakeReplica(default=_FULL) as busy:
        gateway.route(slot("s1", busy.address, weight=1000), slot("s2", good.address, weight=1))
        async with gateway.post() as answer:
            assert answer.status == 200
        assert (len(busy.requests), len(good.requests), gateway.tally("s1").errors) == (1, 1, 0)


async def test_a_client_is_told_when_queues_are_full_rather_than_replicas_missing(gateway: Client) -> None:
    async with FakeReplica(default=_FULL) as busy:
        gateway.route(slot("s1", busy.address, f"127.0.0.1:{free_port()}"))
        async with gateway.post() as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
            assert (await answer.json())["error"]["code"] == "model_overloaded"
    assert gateway.tally("s1").in_flight == 0


async def test_a_kept_connection_that_was_hung_up_is_replaced_once(gateway: Client, good: FakeReplica) -> None:
    good.script.extend([answers(), hangs_up(), answers()])
    gateway.route(slot("s1", good.address))
    for _ in range(2):
        async with gateway.post() as answer:
            assert answer.status == 200
    assert (len(good.requests), gateway.tally("s1").errors) == (3, 0)


async def test_a_request_that_kills_engines_is_not_carried_to_all_of_them(gateway: Client) -> None:
    async with FakeReplica(default=hangs_up()) as one, FakeReplica(default=hangs_up()) as two:
        gateway.route(slot("s1", one.address), slot("s2", two.address))
        async with gateway.post() as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (502, "engine_failed")
        assert len(one.requests) + len(two.requests) == 2


async def test_nothing_is_tried_again_after_the_first_byte(gateway: Client, good: FakeReplica) -> None:
    async with FakeReplica(default=streams(event("Hel"), cut=True)) as dying:
        gateway.route(slot("s1", dying.address, weight=1000), slot("s2", good.address, weight=1))
        async with gateway.post({"stream": True}) as answer:
            assert b"stream_broken" in await answer.read()
    assert not good.requests


async def test_slow_headers_are_waited_for_and_not_tried_elsewhere(gateway: Client, good: FakeReplica) -> None:
    release = asyncio.Event()
    async with FakeReplica(default=waits(release, answers())) as slow:
        gateway.route(slot("s1", slow.address, weight=1000), slot("s2", good.address, weight=1))
        asked = asyncio.create_task(gateway.post().__aenter__())
        await until(lambda: slow.requests, "the request is under way")
        assert (await gateway.tallies())["slots"][0]["inFlight"] == 1
        release.set()
        answer = await asked
        assert (answer.status, len(good.requests)) == (200, 0)
        answer.release()


async def test_a_replica_that_stays_silent_too_long_has_failed(tmp_path: Path, good: FakeReplica) -> None:
    async with (
        running_gateway(tmp_path, silence_seconds=0.2) as gateway,
        FakeReplica(default=waits(asyncio.Event(), answers())) as silent,
    ):
        gateway.route(slot("s1", silent.address, weight=1000), slot("s2", good.address, weight=1))
        async with gateway.post() as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (504, "engine_timeout")
        assert not good.requests


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_the_engine(gateway: Client, good: FakeReplica, stream: bool) -> None:
    left = asyncio.Event()

    async def behave(exchange: Exchange) -> None:
        if stream:
            await exchange.begin_stream()
            await exchange.chunk(event("Hel"))
        await exchange.client_left()
        left.set()

    good.default = behave
    gateway.route(slot("s1", good.address))
    async with aiohttp.ClientSession() as session:
        asked = asyncio.create_task(
            session.post(
                f"{gateway.url}/v1/chat/completions",
                json={"model": "tiny", "stream": stream},
                headers={"Authorization": "Bearer rsk-client-key-for-tests"},
            )
        )
        await until(lambda: good.requests, "the engine is at work")
        if stream:
            answer = await asked
            assert await answer.content.readany() == event("Hel")
            answer.close()
        else:
            asked.cancel()
    await asyncio.wait_for(left.wait(), 5)
    await until(lambda: not gateway.tally("s1").in_flight, "the attempt ended")
    assert gateway.tally("s1").errors == 0


async def test_a_draining_slot_finishes_what_is_under_way_and_gets_nothing_new(
    gateway: Client, good: FakeReplica
) -> None:
    release = asyncio.Event()
    async with FakeReplica(default=waits(release, streams())) as old:
        gateway.route(slot("s1", old.address))
        asked = asyncio.create_task(gateway.post({"stream": True}).__aenter__())
        await until(lambda: old.requests, "the request is under way")
        gateway.route(slot("s1", old.address, state="Draining"), slot("s2", good.address), version=2)
        async with gateway.post() as answer:
            assert answer.status == 200
        assert (len(old.requests), len(good.requests)) == (1, 1)
        gateway.route(slot("s2", good.address), version=3)
        assert gateway.tally("s1").in_flight == 1
        release.set()
        answer = await asked
        assert await answer.read() == b"".join(whole_stream())
        await until(
            lambda: [tally.slot for tally in gateway.gateway.tallies().slots] == ["s2"], "the old slot is forgotten"
        )


async def test_a_revoked_key_is_refused_without_a_restart(tmp_path: Path, good: FakeReplica) -> None:
    async with running_gateway(tmp_path) as gateway:
        gateway.route(slot("s1", good.address))

        async def status() -> int:
            async with gateway.post() as answer:
                return int(answer.status)

        assert await status() == 200
        gateway.settings.keys_file.write_text("")
        ring = gateway.gateway.keys
        await until(lambda: not len(ring()), "the file is read again")
        assert await status() == 401


async def test_told_to_stop_it_finishes_streams_first(tmp_path: Path, good: FakeReplica) -> None:
    release = asyncio.Event()
    good.default = waits(release, streams())
    async with running_gateway(tmp_path) as gateway:
        gateway.route(slot("s1", good.address))
        asked = asyncio.create_task(gateway.post({"stream": True}).__aenter__())
        await until(lambda: good.requests, "the request is under way")
        gateway.gateway.stop()
        async with gateway.session.get(f"{gateway.internal_url}/readyz") as answer:
            assert answer.status == 503
        release.set()
        answer = await asked
        assert await answer.read() == b"".join(whole_stream())


async def test_the_internal_port_keeps_tallies_for_the_door_token(gateway: Client, good: FakeReplica) -> None:
    gateway.route(slot("s1", good.address))
    async with gateway.post() as answer:
        await answer.read()
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer rsk-client-key-for-tests"}):
        async with gateway.session.get(f"{gateway.internal_url}/internal/tallies", headers=headers) as answer:
            assert answer.status == 401
    found = await gateway.tallies()
    assert (found["gateway"], found["synced"]) == ("gateway-test", False)
    assert found["routes"] == [{"name": "tiny", "resourceVersion": "1"}]
    (tally,) = found["slots"]
    assert (tally["slot"], tally["requests"], tally["tokens"], tally["inFlight"]) == ("s1", 1, 7, 0)
    async with gateway.session.get(f"{gateway.internal_url}/metrics") as answer:
        text = await answer.text()
    assert 'roadstead_gateway_requests_total{code="200",model="team/tiny",node="node-a",variant="q4"} 1.0' in text
