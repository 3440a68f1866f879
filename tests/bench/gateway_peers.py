"""The two processes the gateway is measured beside: an engine that costs next to nothing, and a bare proxy.

The bare proxy is what one writes in twenty lines: uvicorn, one aiohttp session, no key, no routes, no counters.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import cast

import aiohttp
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from tests.fixtures.fake_replica import completion, event, whole_stream

CHUNKS = 100
PORT = int(os.environ.get("BENCH_PORT", "0"))


class Engine(asyncio.Protocol):
    """Answers whatever comes by canned bytes; a chunk of a stream goes out on its own, as an engine's would."""

    whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(completion("word " * 64)),
        completion("word " * 64),
    )
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    events = (*(event(" word") for _ in range(CHUNKS - 2)), *whole_stream(())[-2:])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class
        self.got = b""

    def data_received(self, data: bytes) -> None:
        self.got += data
        head, end, body = self.got.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            return
        self.got = b""
        if b'"stream": true' in body:
            self.transport.write(self.head)
            self.next_event(0)
        else:
            self.transport.write(self.whole)

    def next_event(self, number: int) -> None:
        if number == len(self.events):
            self.transport.write(b"0\r\n\r\n")
            return
        event_ = self.events[number]
        self.transport.write(b"%x\r\n%s\r\n" % (len(event_), event_))
        # A pause, so that the proxies see one chunk at a time.
        asyncio.get_running_loop().call_later(0.002, self.next_event, number + 1)


async def engine() -> None:
    server = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", PORT)
    await server.serve_forever()


async def bare(engine_port: int) -> None:
    url = f"http://127.0.0.1:{engine_port}/v1/chat/completions"
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        async with session.post(url, data=body, headers={"content-type": "application/json"}) as answer:
            kind = answer.headers["content-type"].encode()
            headers = [(b"content-type", kind)]
            if kind.startswith(b"text/event-stream"):
                await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                async for chunk in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            else:
                payload = await answer.read()
                headers.append((b"content-length", str(len(payload)).encode()))
                await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                await send({"type": "http.response.body", "body": payload})

    config = uvicorn.Config(app, port=PORT, lifespan="off", access_log=False, log_level="warning", ws="none")
    await uvicorn.Server(config).serve()


def main() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(engine() if sys.argv[1] == "engine" else bare(int(sys.argv[2])))


if __name__ == "__main__":
    main()
