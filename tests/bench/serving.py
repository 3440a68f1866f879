"""Tokens per second and time to first token: through the gateway against the same engine asked directly.

Rounds are interleaved and compared in pairs, because a shared machine is never equally fast for long; the figures are
medians over the pairs. The engine's prompt cache is off, so every answer does the same work.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from dataclasses import dataclass

import aiohttp

from roadstead.embedded.fleet import Fleet
from roadstead.embedded.kube_door import KubeDoor, open_door
from tests.bench.asking import asking
from tests.bench.figures import Figure, say
from tests.bench.fleet import Door, engine_door, local_model, path_of
from tests.fixtures.patience import found

STREAMS = (1, 4)
TOKENS = {1: 64, 4: 32}
_PAIRS_SECONDS = 35.0
"""For each number of streams: as many pairs as fit, at least three."""
_LEAST_PAIRS = 3
_MODEL = "bench"
_READY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Round:
    """What so many streams at once gave."""

    tokens_per_second: float
    first_token_seconds: float
    """Median over the streams."""


@dataclass(frozen=True, slots=True)
class Serving:
    """Pairs of rounds of one number of streams: through the gateway, and bare."""

    streams: int
    pairs: tuple[tuple[Round, Round], ...]

    def figures(self) -> tuple[Figure, Figure]:
        speed = [(ours.tokens_per_second, bare.tokens_per_second) for ours, bare in self.pairs]
        first = [(ours.first_token_seconds * 1000, bare.first_token_seconds * 1000) for ours, bare in self.pairs]
        ratio = statistics.median(ours / bare for ours, bare in speed)
        later = statistics.median(ours - bare for ours, bare in first)
        what = f"{self.streams} stream" + ("s" if self.streams > 1 else "")
        return (
            Figure(f"tokens/s, gateway / bare engine, {what}", f"{ratio:.3f}", "≥ 0.98", _medians(speed, "tokens/s")),
            Figure(
                f"time to first token, gateway - bare engine, {what}",
                f"{later:+.1f} ms",
                "≤ +3 ms",
                _medians(first, "ms"),
            ),
        )


async def measure_serving(fleet: Fleet) -> tuple[Serving, ...]:
    """Serve a model of its own, ask it both ways, delete it."""
    async with open_door(fleet.home.kubeconfig) as kube:
        await kube.apply(path_of(_MODEL), local_model(_MODEL, context_tokens=1024, concurrency=max(STREAMS)))
        await _until_ready(kube)
        gateway, bare = Door(fleet.gateway_url, fleet.api_key), engine_door(fleet.home, _MODEL)
        async with asking() as session:
            measured = tuple([await _pairs(session, gateway, bare, streams=streams) for streams in STREAMS])
        await kube.delete(path_of(_MODEL))
    return measured


async def _until_ready(kube: KubeDoor) -> None:
    async def look() -> bool | None:
        conditions = (await kube.get(path_of(_MODEL)) or {}).get("status", {}).get("conditions", [])
        return any(row["type"] == "Ready" and row["status"] == "True" for row in conditions) or None

    await found(look, "the model that the bench asks is Ready", seconds=_READY_SECONDS)
    await asyncio.sleep(3.0)  # the route reaches the gateway; what started calms down


async def _pairs(session: aiohttp.ClientSession, gateway: Door, bare: Door, *, streams: int) -> Serving:
    pairs = []
    until = time.monotonic() + _PAIRS_SECONDS
    for number in itertools.count(-1):
        if number >= _LEAST_PAIRS and time.monotonic() > until:
            break
        order = (gateway, bare) if number % 2 else (bare, gateway)
        rounds = {door: await _round(session, door, streams=streams) for door in order}
        if number >= 0:  # the first pair warms up
            pairs.append((rounds[gateway], rounds[bare]))
    serving = Serving(streams, tuple(pairs))
    for figure in serving.figures():
        say(str(figure))
    return serving


async def _round(session: aiohttp.ClientSession, door: Door, *, streams: int) -> Round:
    started = time.perf_counter()
    answers = await asyncio.gather(*(_stream(session, door, tokens=TOKENS[streams]) for _ in range(streams)))
    seconds = time.perf_counter() - started
    return Round(streams * TOKENS[streams] / seconds, statistics.median(answers))


async def _stream(session: aiohttp.ClientSession, door: Door, *, tokens: int) -> float:
    """Seconds to the first token; returns when the stream has ended."""
    body = {
        "model": _MODEL,
        "messages": [{"role": "user", "content": "What is a roadstead, and why do ships wait there?"}],
        "stream": True,
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": False,
    }
    started, first, events = time.perf_counter(), 0.0, 0
    headers = {"Authorization": f"Bearer {door.key}"}
    async with session.post(f"{door.url}/v1/chat/completions", json=body, headers=headers) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{door.url} answered {answer.status}: {await answer.text()}")
        async for line in answer.content:
            if b'"content":"' in line:
                first = first or time.perf_counter() - started
                events += 1
    if events < tokens // 2:
        raise RuntimeError(f"{door.url} sent {events} pieces of text where {tokens} tokens were asked for")
    return first


def _medians(pairs: list[tuple[float, float]], unit: str) -> str:
    ours, bare = zip(*pairs, strict=True)
    return f"{statistics.median(ours):.1f} and {statistics.median(bare):.1f} {unit}"
