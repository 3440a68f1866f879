"""llama.cpp's server out of the wheel, as a real process: what it says when it cannot serve."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import xllamacpp

from roadstead_worker.engines.xllamacpp_server import flush_log

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
