"""What clients get: whole answers, streams, and errors in OpenAI's words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.fixtures.fake_replica import (
    DONE,
    USAGE,
    Behaviour,
    Exchange,
    FakeReplica,
    answers,
    completion,
    event,
    refuses,
    streams,
    whole_stream,
)
from tests.fixtures.fake_route_api import slot
from tests.fixtures.gateway import BEARER, KEY, REPLICA_TOKEN, Client, running_gateway
from tests.fixtures.patience import until

pytestmark = [pytest.mark.contract, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def replica() -> AsyncIterator[FakeReplica]:
    async with FakeReplica() as fake:
        yield fake


async def test_an_answer_comes_back_byte_for_byte_with_its_origin(gateway: Client, replica: FakeReplica) -> None:
    gateway.route(slot("s1", replica.address, release=7, variant="q4-k-m", node="node-b"))
    async with gateway.post() as answer:
        assert (answer.status, await answer.read()) == (200, completion())
    origin = {name: answer.headers[f"x-roadstead-{name}"] for name in ("release", "variant", "node")}
    assert origin == {"release": "7", "variant": "q4-k-m", "node": "node-b"}
    assert answer.headers["x-request-id"]


async def test_the_engine_gets_the_clients_bytes_our_secret_and_not_the_clients_key(
    gateway: Client, replica: FakeReplica
) -> None:
    gateway.route(slot("s1", replica.address))
    body = b'{ "model":"tiny",  "messages": [{"role":"user","content":"\\u00e4"}], "mystery": {"x": 1.50} }'
    headers = BEARER | {"Content-Type": "application/json", "Cookie": "a=b", "x-request-id": "mine-1"}
    async with gateway.post(data=body, json=None, headers=headers) as answer:
        assert answer.headers["x-request-id"] == "mine-1"
    (seen,) = replica.requests
    assert (seen.path, seen.body) == ("/s1/v1/chat/completions", body)
    assert seen.headers["x-roadstead-replica"] == REPLICA_TOKEN
    assert seen.headers["x-request-id"] == "mine-1"
    assert "authorization" not in seen.headers
    assert "cookie" not in seen.headers
    assert KEY not in str(seen.headers)


async def test_completions_go_to_their_own_path(gateway: Client, replica: FakeReplica) -> None:
    gateway.route(slot("s1", replica.address))
    async with gateway.post({"prompt": "Once"}, path="/v1/completions") as answer:
        assert answer.status == 200
    assert replica.requests[0].path == "/s1/v1/completions"


async def test_a_model_is_found_by_short_name_and_by_full_name(gateway: Client, replica: FakeReplica) -> None:
    gateway.route(slot("s1", replica.address), names=["tiny", "gpt-4o-mini"])
    for model in ("tiny", "gpt-4o-mini", "team/tiny"):
        async with gateway.post({"model": model}) as answer:
            assert answer.status == 200, model


async def test_a_stream_passes_byte_for_byte(gateway: Client, replica: FakeReplica) -> None:
    gateway.route(slot("s1", replica.address))
    replica.default = streams()
    async with gateway.post({"stream": True}) as answer:
        assert answer.content_type == "text/event-stream"
        assert await answer.read() == b"".join(whole_stream())
    await until(lambda: not gateway.tally("s1").in_flight, "the attempt ended")
    tally = gateway.tally("s1")
    assert (tally.requests, tally.errors, tally.first_tokens, tally.tokens) == (1, 0, 1, 4)


async def test_tokens_are_taken_from_what_the_engine_says(gateway: Client, replica: FakeReplica) -> None:
    gateway.route(slot("s1", replica.address))
    last = b'data: {"choices":[],"usage":{"completion_tokens": 41},"timings":{"predicted_n":41}}\n\n'
    replica.script.append(streams(event("Hi", finish="stop"), last, DONE))
    async with gateway.post({"stream": True}) as answer:
        await answer.read()
    async with gateway.post() as answer:
        await answer.read()
    assert gateway.tally("s1").tokens == 41 + USAGE["completion_tokens"]


BROKEN = {
    "the connection is cut": streams(event("Hel"), cut=True),
    "the engine ends in the middle of an event": streams(event("Hel"), b'data: {"choices": [{"del'),
    "there is no [DONE]": streams(event("Hel"), event(None, finish="stop")),
    "[DONE] comes without a finish reason": streams(event("Hel"), DONE),
    "the engine reports an error of its own": streams(
        event("Hel"), b'data: {"error":{"code":500,"message":"CUDA at 10.0.0.7 /opt/x.cu:12"}}\n\n', DONE
    ),
}


@pytest.mark.parametrize("behave", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_stream_ends_with_an_error_event_and_nothing_invented(
    gateway: Client, replica: FakeReplica, behave: Behaviour
) -> None:
    gateway.route(slot("s1", replica.address))
    replica.default = behave
    async with gateway.post({"stream": True}) as answer:
        events = (await answer.read()).split(b"\n\n")
    assert events[0] + b"\n\n" == event("Hel")
    assert events[-1] == b""
    error = json.loads(events[-2].removeprefix(b"data: "))["error"]
    assert error["code"] == "stream_broken"
    assert "10.0.0.7" not in str(events)
    assert b"data: [DONE]" not in events
    tally = gateway.tally("s1")
    assert (tally.in_flight, tally.requests, tally.errors) == (0, 1, 1)


async def test_an_error_event_about_the_input_keeps_the_engines_words(gateway: Client, replica: FakeReplica) -> None:
    gateway.route(slot("s1", replica.address))
    replica.default = streams(
        b'data: {"error":{"code":400,"type":"exceed_context_size_error","message":"9 tokens, only 4 fit"}}\n\n'
    )
    async with gateway.post({"stream": True}) as answer:
        error = json.loads((await answer.read()).removeprefix(b"data: "))["error"]
    assert (error["code"], error["message"]) == ("context_length_exceeded", "9 tokens, only 4 fit")
    assert gateway.tally("s1").errors == 0


async def test_a_model_may_talk_about_errors_and_done(gateway: Client, replica: FakeReplica) -> None:
    gateway.route(slot("s1", replica.address))
    chunks = (event('{"error": {"code": 500}} data: [DONE]\n\ndata: [DONE]\n'), event(None, finish="stop"), DONE)
    replica.default = streams(*chunks)
    async with gateway.post({"stream": True}) as answer:
        assert await answer.read() == b"".join(chunks)


async def test_the_official_client_answers_and_streams(gateway: Client, replica: FakeReplica) -> None:
    gateway.route(slot("s1", replica.address))
    replica.script.extend([answers(), streams(), streams(event("Hel"), cut=True)])
    client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0)
    messages: Any = [{"role": "user", "content": "Hi"}]
    async with client:
        whole = await client.chat.completions.create(model="tiny", messages=messages)
        assert whole.choices[0].message.content == "Hello."
        stream = await client.chat.completions.create(model="tiny", messages=messages, stream=True)
        heard = [chunk.choices[0].delta.content async for chunk in stream]
        assert "".join(word or "" for word in heard) == "Hello."
        broken = await client.chat.completions.create(model="tiny", messages=messages, stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            [chunk async for chunk in broken]
        assert [model.id async for model in client.models.list()] == ["tiny"]
        with pytest.raises(openai.NotFoundError) as missing:
            await client.models.retrieve("nothing")
        assert missing.value.code == "model_not_found"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/models/tiny", "/anything", "/"])
async def test_nothing_answers_without_a_key(gateway: Client, path: str) -> None:
    for authorization in ("", "Bearer wrong", KEY, f"Basic {KEY}", "Bearer ", "Bearer " + "x" * 5000):
        headers = {"Authorization": authorization} if authorization else {}
        async with gateway.session.get(f"{gateway.url}{path}", headers=headers) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert (await answer.json())["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "nothing"}, 404, "model_not_found"),
        ({"model": "team/nothing"}, 404, "model_not_found"),
        ({"model": "empty"}, 503, "model_not_ready"),
        ({"model": ""}, 400, "invalid_value"),
        ({"n": 0}, 400, "invalid_value"),
        ({"n": 9}, 400, "invalid_value"),
    ],
)
async def test_refusals_have_openais_shape(gateway: Client, body: dict[str, Any], status: int, code: str) -> None:
    gateway.route(slot("s9"), name="empty")
    async with gateway.post(body) as answer:
        found = await answer.json()
        assert (answer.status, found["error"]["code"]) == (status, code)
        assert set(found["error"]) == {"message", "type", "param", "code"}
        assert ("Retry-After" in answer.headers) == (status == 503)


async def test_unknown_paths_and_methods_are_refused_in_the_same_shape(gateway: Client) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/completions", 405),
        ("GET", "/internal/tallies", 404),
        ("GET", "/metrics", 404),
    ):
        async with gateway.session.request(method, f"{gateway.url}{path}", headers=BEARER) as answer:
            assert (answer.status, "code" in (await answer.json())["error"]) == (status, True), path


async def test_a_body_that_is_too_large_or_compressed_is_refused(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, body_limit_bytes=2000) as gateway:
        async with gateway.post({"messages": "x" * 3000}) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (413, "request_too_large")

        async def unmeasured() -> AsyncIterator[bytes]:
            for _ in range(30):
                yield b" " * 100

        as_json = BEARER | {"Content-Type": "application/json"}
        async with gateway.post(data=unmeasured(), json=None, headers=as_json) as answer:
            assert answer.status == 413
        async with gateway.post(headers=BEARER | {"Content-Encoding": "gzip"}) as answer:
            assert answer.status == 415


async def test_a_body_that_never_ends_is_given_up(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, body_seconds=0.2) as gateway:
        host, _, port = gateway.settings.listen.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 50\r\n\r\n{{"
        )
        writer.write(head.encode())
        assert b" 408 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()


REFUSED = "The model's engine refused this request."
FAILED = "The model's engine failed to answer."


@pytest.mark.parametrize(
    ("behave", "expected"),
    [
        (
            refuses(400, message="`tools` needs --jinja", type="invalid_request_error"),
            (400, "invalid_request_error", "`tools` needs --jinja"),
        ),
        (
            refuses(400, message="too long", type="exceed_context_size_error"),
            (400, "context_length_exceeded", "too long"),
        ),
        (answers(b'{"detail":"no"}', status=422), (422, "invalid_request_error", REFUSED)),
        (answers(b'{"error":"File Not Found"}', status=404), (404, "invalid_request_error", "File Not Found")),
        (refuses(429, message="slow down"), (429, "invalid_request_error", "slow down")),
        (refuses(500, message="path /opt/engine"), (502, "engine_failed", FAILED)),
        (refuses(401, message="bad replica secret"), (502, "engine_failed", FAILED)),
        (answers(b"<html>oops", status=500, content_type="text/html"), (502, "engine_failed", FAILED)),
    ],
    ids=["input", "context", "no message", "not found", "busy", "crash", "our secret is wrong", "not JSON"],
)
async def test_what_an_engine_says_of_the_input_is_passed_on_and_its_own_troubles_are_not(
    gateway: Client, replica: FakeReplica, behave: Behaviour, expected: tuple[int, str, str]
) -> None:
    gateway.route(slot("s1", replica.address))
    replica.default = behave
    async with gateway.post() as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["message"]) == expected
    assert gateway.tally("s1").errors == (answer.status >= 500)


async def test_an_answer_that_is_cut_short_is_an_error_not_a_shorter_answer(
    gateway: Client, replica: FakeReplica
) -> None:
    async def behave(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
        await exchange.writer.drain()
        exchange.keep_alive = False

    gateway.route(slot("s1", replica.address))
    replica.default = behave
    async with gateway.post() as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (502, "engine_failed")
    assert len(replica.requests) == 1
