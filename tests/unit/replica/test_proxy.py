"""The replica's door before a scripted engine, over real sockets:

who may enter, what streams, what happens when either side leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from aiohttp import web

from roadstead_worker.contract import REPLICA_HEADER
from roadstead_worker.engines.llama_cpp import LlamaCpp
from roadstead_worker.replica.event_stream import EventStream
from roadstead_worker.replica.proxy import ReplicaProxy, ReplicaSecret, Upstream

SECRET = {REPLICA_HEADER: "s3cret"}
CHAT = "/v1/chat/completions"
EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


@dataclass
class Engine:
    """What the engine does with a request, and what it saw."""

    script: Callable[[web.Request, web.StreamResponse], Awaitable[None]]
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Server": "llama.cpp"})
        try:
            await self.script(request, response)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
        return response

    async def completion(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        return web.json_response({"path": request.path, "key": request.headers["Authorization"]})


async def whole(request: web.Request, response: web.StreamResponse) -> None:
    await response.prepare(request)
    for part in (EVENT, EVENT, DONE):
        await response.write(part)


async def endless(request: web.Request, response: web.StreamResponse) -> None:
    await response.prepare(request)
    while True:
        await response.write(EVENT)
        await asyncio.sleep(0.01)


async def dies(request: web.Request, response: web.StreamResponse) -> None:
    await response.prepare(request)
    await response.write(EVENT + EVENT[:20])
    assert request.transport is not None
    request.transport.close()


async def dies_at_once(request: web.Request, _response: web.StreamResponse) -> None:
    assert request.transport is not None
    request.transport.close()


async def unfinished(request: web.Request, response: web.StreamResponse) -> None:
    await response.prepare(request)
    await response.write(EVENT)


@dataclass
class Door:
    engine: Engine
    proxy: ReplicaProxy
    client: aiohttp.ClientSession
    upstream: list[Upstream | None]
    answered: list[bytes]
    secret: Path


@contextlib.asynccontextmanager
async def opened(
    folder: Path, script: Callable[[web.Request, web.StreamResponse], Awaitable[None]]
) -> AsyncIterator[Door]:
    engine = Engine(script)
    application = web.Application()
    application.router.add_post(CHAT, engine.chat)
    application.router.add_post("/v1/completions", engine.completion)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    secret = folder / "replica.token"
    secret.write_text("s3cret\n")
    upstream: list[Upstream | None] = [Upstream(address=f"http://127.0.0.1:{runner.addresses[0][1]}", key="kk")]
    answered: list[bytes] = []
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True), auto_decompress=False
    ) as session:
        proxy = ReplicaProxy(
            secret=ReplicaSecret(secret),
            capabilities=LlamaCpp().capabilities,
            upstream=lambda: upstream[0],
            session=session,
            on_answer=lambda end, _in_flight: answered.append(end),
        )
        server = uvicorn.Server(uvicorn.Config(proxy, host="127.0.0.1", port=0, log_level="error", root_path="/s/slot"))
        serving = asyncio.create_task(server.serve())
        async with asyncio.timeout(5):
            while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
                await asyncio.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with aiohttp.ClientSession(base_url=f"http://127.0.0.1:{port}") as client:
            yield Door(engine, proxy, client, upstream, answered, secret)
        server.should_exit = True
        await serving
    await runner.cleanup()


async def test_a_stream_passes_whole_and_tells_nothing_of_the_engine(tmp_path: Path) -> None:
    async with opened(tmp_path, whole) as door:
        headers = SECRET | {"Authorization": "Bearer the-client's", "Connection": "keep-alive"}
        async with door.client.post(CHAT, data=b'{"stream": true}', headers=headers) as answer:
            assert answer.status == 200
            assert answer.content_type == "text/event-stream"
            assert "llama.cpp" not in answer.headers.getall("Server", [])
            assert await answer.read() == EVENT + EVENT + DONE
        assert door.engine.bodies == [b'{"stream": true}']
        assert door.engine.requests[0].headers["Authorization"] == "Bearer kk"
        assert REPLICA_HEADER not in door.engine.requests[0].headers
        assert door.answered == [EVENT + EVENT + DONE]


async def test_the_first_event_arrives_before_the_last_is_written(tmp_path: Path) -> None:
    async with opened(tmp_path, endless) as door, door.client.post(CHAT, data=b"{}", headers=SECRET) as answer:
        assert await asyncio.wait_for(answer.content.readuntil(b"\n\n"), 5) == EVENT


@pytest.mark.parametrize("headers", [{}, {REPLICA_HEADER: ""}, {REPLICA_HEADER: "s3creT"}])
async def test_a_caller_without_the_secret_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    async with opened(tmp_path, whole) as door, door.client.post(CHAT, data=b"{}", headers=headers) as answer:
        assert answer.status == 401
        assert (await answer.json())["error"]["code"] == "Unauthorized"
        assert door.engine.requests == []


async def test_a_rotated_secret_is_known_without_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path, whole) as door:
        async with door.client.post(CHAT, data=b"{}", headers=SECRET) as answer:
            assert answer.status == 200
        door.secret.write_text("n3w")
        async with door.client.post(CHAT, data=b"{}", headers={REPLICA_HEADER: "n3w"}) as answer:
            assert answer.status == 200
        async with door.client.post(CHAT, data=b"{}", headers=SECRET) as answer:
            assert answer.status == 401


async def test_without_an_engine_the_answer_is_503(tmp_path: Path) -> None:
    async with opened(tmp_path, whole) as door:
        door.upstream[0] = None
        async with door.client.post(CHAT, data=b"{}", headers=SECRET) as answer:
            assert answer.status == 503
            assert (await answer.json())["error"]["code"] == "EngineNotReady"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/embeddings"), ("GET", CHAT), ("GET", "/props"), ("POST", "/v1/../slots")]
)
async def test_other_paths_of_the_engine_are_closed(tmp_path: Path, method: str, path: str) -> None:
    async with opened(tmp_path, whole) as door, door.client.request(method, path, headers=SECRET) as answer:
        assert answer.status == 404


async def test_a_request_for_a_slot_whose_name_begins_like_ours_is_sent_elsewhere(tmp_path: Path) -> None:
    """Ray compares only the beginnings of paths, and ports change hands."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("its body is not read")

    secret = [(name.lower().encode(), value.encode()) for name, value in SECRET.items()]
    scope = {"type": "http", "method": "POST", "path": f"/s/slot-1{CHAT}", "root_path": "/s/slot", "headers": secret}
    async with opened(tmp_path, whole) as door:
        await door.proxy(scope, receive, send)
    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"])["error"]["code"] == "AnotherSlot"


async def test_an_answer_that_is_no_stream_passes_with_its_status(tmp_path: Path) -> None:
    completions = "/v1/completions"
    async with opened(tmp_path, whole) as door, door.client.post(completions, data=b"{}", headers=SECRET) as answer:
        assert await answer.json() == {"path": "/v1/completions", "key": "Bearer kk"}


async def test_a_client_that_leaves_ends_the_engines_work(tmp_path: Path) -> None:
    async with opened(tmp_path, endless) as door:
        async with door.client.post(CHAT, data=b"{}", headers=SECRET) as answer:
            await answer.content.readuntil(b"\n\n")
            assert door.proxy.in_flight == 1
            assert not await door.proxy.drained(0.01)
        await asyncio.wait_for(door.engine.left.wait(), 5)
        assert await door.proxy.drained(5)


@pytest.mark.parametrize("script", [dies, unfinished])
async def test_a_stream_the_engine_did_not_finish_ends_with_an_error_event(
    tmp_path: Path, script: Callable[[web.Request, web.StreamResponse], Awaitable[None]]
) -> None:
    async with opened(tmp_path, script) as door, door.client.post(CHAT, data=b"{}", headers=SECRET) as answer:
        events = (await answer.read()).split(b"\n\n")
    assert events[0] + b"\n\n" == EVENT
    assert json.loads(events[1].removeprefix(b"data: "))["error"]["code"] == "EngineUnavailable"
    assert events[2:] == [b""]


async def test_an_engine_that_dies_before_the_first_byte_is_a_503_that_a_gateway_may_retry(tmp_path: Path) -> None:
    async with opened(tmp_path, dies_at_once) as door:
        async with door.client.post(CHAT, data=b"{}", headers=SECRET) as answer:
            assert answer.status == 503
        assert len(door.engine.requests) == 1


@pytest.mark.parametrize(
    ("chunks", "passed", "finished"),
    [
        ([b"data: a\n\n", b"data: [DONE]\n\n"], [b"data: a\n\n", b"data: [DONE]\n\n"], True),
        ([b"data: a", b"\n", b"\ndata: b\n\n"], [b"", b"", b"data: a\n\ndata: b\n\n"], False),
        ([b"data: a\r\n\r\ndata: [DO", b"NE]\r\n\r\n"], [b"data: a\r\n\r\n", b"data: [DONE]\r\n\r\n"], True),
        ([b'data: a\n\ndata: {"error":{}}\n\n'], [b'data: a\n\ndata: {"error":{}}\n\n'], True),
        (
            [b'data: {"x":"data: [DONE]"}\n\n' + 9 * b"data: more\n\n"],
            [b'data: {"x":"data: [DONE]"}\n\n' + 9 * b"data: more\n\n"],
            False,
        ),
    ],
)
def test_events_pass_whole_and_the_end_is_known(chunks: list[bytes], passed: list[bytes], finished: bool) -> None:
    stream = EventStream()
    assert [stream.push(chunk) for chunk in chunks] == passed
    assert stream.finished is finished
