"""What the gateway costs: CPU per unary request, and per chunk of a stream, against a bare uvicorn+aiohttp proxy.

Both stand in front of the same fake engine, which costs next to nothing. Rounds are interleaved, and CPU is read from
the kernel's process times rather than from a clock, so that other work on the machine moves both alike. Run it alone:

    python -m tests.bench.gateway
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from roadstead_gateway import saved
from roadstead_gateway.routes import Route
from tests.fixtures.free_ports import free_port

ROUNDS = 5
REQUESTS = 4000
STREAMS = 40
CONCURRENCY = 16
CHUNKS = 100
_KEY = "rsk-bench"
_ENTRY = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class GatewayCost:
    """Medians over the rounds; times in microseconds of CPU of the process measured."""

    gateway_unary: float
    bare_unary: float
    gateway_chunk: float
    bare_chunk: float

    @property
    def unary_ratio(self) -> float:
        """The aim is at most 1.5."""
        return self.gateway_unary / self.bare_unary

    @property
    def chunk_ratio(self) -> float:
        return self.gateway_chunk / self.bare_chunk


def measure_gateway_cpu(rounds: int = ROUNDS, requests: int = REQUESTS) -> GatewayCost:
    """Start an engine, a bare proxy and a gateway, load them in turn, read what each has used."""
    with tempfile.TemporaryDirectory() as folder, _started(Path(folder)) as targets:
        return asyncio.run(_measure(targets, rounds=rounds, requests=requests))


@dataclass(frozen=True, slots=True)
class _Target:
    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


async def _measure(targets: dict[str, _Target], *, rounds: int, requests: int) -> GatewayCost:
    found: dict[tuple[str, bool], list[float]] = {}
    for target in targets.values():
        await _load(target.port, requests=200, stream=False)
        await _load(target.port, requests=8, stream=True)
    for number in range(rounds):
        order = list(targets.items()) if number % 2 else list(reversed(targets.items()))
        for stream, count in ((False, requests), (True, STREAMS)):
            for name, target in order:
                before = target.cpu_seconds()
                await _load(target.port, requests=count, stream=stream)
                found.setdefault((name, stream), []).append((target.cpu_seconds() - before) / count * 1e6)
    unary = {name: statistics.median(found[name, False]) for name in targets}
    chunk = {name: (statistics.median(found[name, True]) - unary[name]) / CHUNKS for name in targets}
    return GatewayCost(
        gateway_unary=unary["gateway"],
        bare_unary=unary["bare"],
        gateway_chunk=chunk["gateway"],
        bare_chunk=chunk["bare"],
    )


async def _load(port: int, *, requests: int, stream: bool) -> None:
    """Closed loop over plain sockets: the client must not be what is measured."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a roadstead? " * 10}]
    asked = json.dumps({"model": "tiny", "stream": stream, "max_tokens": 64, "messages": messages}).encode()
    head = (
        f"POST {_ENTRY} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {_KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(asked)}\r\n\r\n"
    )
    request = head.encode() + asked
    left = requests

    async def one_client() -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while left > 0:
            left -= 1
            writer.write(request)
            await _read_answer(reader)
        writer.close()

    await asyncio.gather(*(one_client() for _ in range(CONCURRENCY)))


async def _read_answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError(f"the bench got {head[:200]!r}")
    if b"content-length:" in head:
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
    await reader.readexactly(2)


@contextlib.contextmanager
def _started(folder: Path) -> Iterator[dict[str, _Target]]:
    """The engine, and in front of it the bare proxy and a gateway that works by its last good routes."""
    with contextlib.ExitStack() as stack:
        engine = _spawn(stack, [sys.executable, "-m", "tests.bench.gateway_peers", "engine"], {})
        bare = _spawn(stack, [sys.executable, "-m", "tests.bench.gateway_peers", "bare", str(engine.port)], {})
        gateway = _spawn(stack, [sys.executable, "-m", "roadstead_gateway"], _gateway_files(folder, engine.port))
        yield {"gateway": gateway, "bare": bare}


def _gateway_files(folder: Path, engine_port: int) -> dict[str, str]:
    (folder / "keys").write_text(hashlib.sha256(_KEY.encode()).hexdigest())
    for name in ("replica", "door"):
        (folder / f"{name}.token").write_text("a-token")
    slot = {
        "name": "s1",
        "release": 1,
        "variant": "q4",
        "node": "node-a",
        "routePrefix": "/team.tiny",
        "addresses": [f"127.0.0.1:{engine_port}"],
        "weight": 100,
        "capacity": 64,
    }
    spec = {"model": "team/tiny", "names": ["tiny"], "task": "Chat", "slots": [slot]}
    saved.save(folder / "state", (Route.parse({"metadata": {"name": "tiny", "resourceVersion": "1"}, "spec": spec}),))
    return {
        "ROADSTEAD_KEYS_FILE": str(folder / "keys"),
        "ROADSTEAD_REPLICA_TOKEN_FILE": str(folder / "replica.token"),
        "ROADSTEAD_DOOR_TOKEN_FILE": str(folder / "door.token"),
        "ROADSTEAD_STATE_DIR": str(folder / "state"),
        "ROADSTEAD_LOG_LEVEL": "ERROR",
        "KUBECONFIG": str(folder / "none"),
    }


def _spawn(stack: contextlib.ExitStack, command: list[str], environment: dict[str, str]) -> _Target:
    port, internal = free_port(), free_port()
    ours = {"ROADSTEAD_LISTEN": f"127.0.0.1:{port}", "ROADSTEAD_INTERNAL_LISTEN": f"127.0.0.1:{internal}"}
    process = subprocess.Popen(command, env=os.environ | environment | ours | {"BENCH_PORT": str(port)})
    stack.callback(process.wait, timeout=20)
    stack.callback(process.terminate)
    deadline = time.monotonic() + 20
    while not _listens(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{command} did not start")
    return _Target(port, psutil.Process(process.pid))


def _listens(port: int) -> bool:
    time.sleep(0.05)
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def report(cost: GatewayCost) -> None:
    print(f"{'CPU, microseconds':<22}{'gateway':>10}{'bare proxy':>12}{'ratio':>8}   aim")
    print(
        f"{'per unary request':<22}{cost.gateway_unary:>10.1f}{cost.bare_unary:>12.1f}{cost.unary_ratio:>8.2f}   ≤ 1.5"
    )
    print(f"{'per chunk of a stream':<22}{cost.gateway_chunk:>10.1f}{cost.bare_chunk:>12.1f}{cost.chunk_ratio:>8.2f}")


if __name__ == "__main__":
    report(measure_gateway_cpu())
