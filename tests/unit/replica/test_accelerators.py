"""Which accelerators an engine sees, and how llama.cpp is told to use them."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from roadstead_worker.engines.base import EngineSpec
from roadstead_worker.engines.llama_cpp import LlamaCpp
from roadstead_worker.engines.visible_devices import visible
from roadstead_worker.replica.engine_process import EngineProcess, EngineRun
from tests.unit.replica.test_engine_process import ScriptedEngine

NVIDIA = ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-1d6f0f63-ff5d-2a3c-7c1e-5e4f0c0b9a11")
SLICE = "MIG-9a5b7c3e-1f2d-5c6b-8e4a-0d9c8b7a6f5e"
AMD = ("GPU-adaa93110835edcd", "GPU-26af130f49b3e812")
SPEC = EngineSpec(model=Path("m.gguf"), served_name="m", context_tokens=512, concurrency=1, threads=1)


@pytest.mark.parametrize(
    ("devices", "cuda", "rocr"),
    [
        (NVIDIA, ",".join(NVIDIA), ""),
        ((SLICE,), SLICE, ""),
        (AMD[::-1], "", f"{AMD[1]},{AMD[0]}"),
        ((), "", ""),
    ],
    ids=["cards of NVIDIA's", "a slice", "cards of AMD's", "none"],
)
def test_an_engine_sees_the_accelerators_of_its_group_and_no_other(
    devices: tuple[str, ...], cuda: str, rocr: str
) -> None:
    assert visible(devices) == {"CUDA_VISIBLE_DEVICES": cuda, "ROCR_VISIBLE_DEVICES": rocr}


def flags(*devices: str) -> dict[str, str]:
    """What ``llama-server`` is told of accelerators."""
    argv = LlamaCpp(Path("/llama-server")).command(replace(SPEC, devices=devices)).argv
    told = ("--device", "-ngl", "--split-mode", "--tensor-split")
    return {flag: argv[argv.index(flag) + 1] for flag in told if flag in argv}


def test_a_model_lies_whole_on_one_accelerator_and_in_equal_parts_on_several() -> None:
    assert flags(SLICE) == {"--device": "CUDA0", "-ngl": "999"}
    assert flags(AMD[0]) == {"--device": "ROCm0", "-ngl": "999"}
    assert flags(*NVIDIA) == {
        "--device": "CUDA0,CUDA1",
        "-ngl": "999",
        "--split-mode": "layer",
        "--tensor-split": "1,1",
    }


def test_an_engine_for_the_processor_is_told_to_use_no_accelerator() -> None:
    assert flags() == {"--device": "none"}


def test_the_server_out_of_the_wheel_is_told_how_many_there_are() -> None:
    def told(*devices: str) -> tuple[str, ...]:
        return LlamaCpp().command(replace(SPEC, devices=devices)).argv[-2:]

    assert told(*NVIDIA) == ("--devices", "2")
    assert told() == ("--threads", "1")


async def test_what_the_replica_itself_may_see_is_not_what_its_engine_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "0,1,2,3")
    model = tmp_path / "model.gguf"
    model.touch()
    with closing(os.fdopen(os.open(tmp_path / "lease.json", os.O_RDWR | os.O_CREAT))) as lease:
        run = EngineRun(
            engine=ScriptedEngine("serve", tmp_path / "state"),
            spec=replace(SPEC, model=model, devices=(SLICE,)),
            key="secret",
            log=tmp_path / "logs" / "slot.0.log",
            scratch=tmp_path / "scratch",
            lease_descriptor=lease.fileno(),
            start_seconds=10,
            confined=False,
        )
        async with aiohttp.ClientSession() as session:
            engine = await EngineProcess.start(run, session)
            try:
                told = Path(f"/proc/{engine.pid}/environ").read_text().split("\0")
            finally:
                await engine.kill()
    assert {entry for entry in told if "VISIBLE_DEVICES" in entry} == {
        f"CUDA_VISIBLE_DEVICES={SLICE}",
        "ROCR_VISIBLE_DEVICES=",
    }
