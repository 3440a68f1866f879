"""A replica's own class, without Ray, and a real node agent: memory granted, an engine that serves, memory told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from roadstead_worker.contract import MEMORY_STEP_BYTES, SlotArgs, SlotUserConfig, WeightPhase
from roadstead_worker.replica.slot import SlotReplica
from tests.fixtures.fake_nvml import fake_nvml
from tests.fixtures.node_agent import NodeAgent, node_agent
from tests.fixtures.ray_cell import smollm2

MIB = 1024**2
CARD, SLICE = "GPU-11111111", "MIG-44444444"

pytestmark = [
    pytest.mark.contract,
    pytest.mark.engines,
    # Ray awaits it; the interpreter, which knows nothing of that, calls it as well.
    pytest.mark.filterwarnings("ignore:coroutine 'SlotReplica.__del__' was never awaited"),
]


async def slot_args(agent: NodeAgent, folder: Path, monkeypatch: pytest.MonkeyPatch, *, devices: int = 0) -> SlotArgs:
    """Of a slot on the agent's node, whose weights are there and whose replica can start."""
    model = smollm2()
    (folder / "replica.token").write_text("secret")
    resolved = (await agent.resolve(f"file://{model}")).body
    await agent.fetch(f"file://{model}", resolved["digest"], resolved["bytes"])
    await agent.weight(resolved["digest"], WeightPhase.READY)
    monkeypatch.setenv("ROADSTEAD_STORE", str(agent.settings.store))
    monkeypatch.setenv("ROADSTEAD_NODE", "node-a")
    monkeypatch.setenv("ROADSTEAD_REPLICA_TOKEN_FILE", str(folder / "replica.token"))
    monkeypatch.setenv("ROADSTEAD_LLAMA_SERVER", "-")
    return SlotArgs(
        slot="s",
        model="team/s",
        variant="q4",
        node="node-a",
        content="c0ffee",
        artifact=resolved["digest"],
        engine="LlamaCpp",
        engine_image="xllamacpp",
        served_name="s",
        context_tokens=512,
        concurrency=1,
        threads=1,
        devices=devices,
    )


async def test_a_lease_tells_what_its_engine_really_holds_and_ends_with_the_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node_agent(tmp_path, memory_bytes=1024 * MIB, cores=1, source_roots=(smollm2().parent,)) as agent:
        args = await slot_args(agent, tmp_path, monkeypatch)
        replica = SlotReplica(args.model_dump(mode="json"))
        await replica.__serve_build_asgi_app__()
        try:
            await replica.reconfigure(SlotUserConfig(release=1, memory_bytes=10 * MIB, groups=1).model_dump())
            async with asyncio.timeout(60):
                state = await agent.state()
                while not (state.leases and state.leases[0].bytes_measured > 90 * MIB and state.measurements):
                    state = await agent.state(state.digest)
            (lease,), (measurement,) = state.leases, state.measurements
            taken = 1024 * MIB - state.memory.free_bytes
            assert abs(taken - lease.bytes_measured) <= 2 * MEMORY_STEP_BYTES, "each is told when it moved by a step"
            assert abs(lease.bytes_measured - measurement.memory_bytes) < 64 * MIB, "one measure, taken twice"
        finally:
            await replica.__del__()
        async with asyncio.timeout(30):
            while state.leases:
                state = await agent.state(state.digest)
        assert state.memory.free_bytes == 1024 * MIB


def environment_below(replica: int) -> Iterator[str]:
    """Variables of the engine, which is the one child that serves."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"\nPPid:\t{replica}\n" in (process / "status").read_text():
                environment = (process / "environ").read_text().split("\0")
                if any(entry.startswith("LLAMA_API_KEY=") for entry in environment):
                    yield from environment


async def test_an_engine_starts_when_its_group_is_known_and_sees_the_accelerators_of_it_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel of the tests can use none: what is looked at is what it was given."""
    settings: dict[str, Any] = {"nvml": fake_nvml(tmp_path), "memory_bytes": 1024 * MIB, "cores": 1}
    async with node_agent(tmp_path, source_roots=(smollm2().parent,), **settings) as agent:
        args = await slot_args(agent, tmp_path, monkeypatch, devices=1)
        replica = SlotReplica(args.model_dump(mode="json"))
        await replica.__serve_build_asgi_app__()
        config = SlotUserConfig(release=1, memory_bytes=10 * MIB, groups=1, device_bytes=4096 * MIB)
        starting = asyncio.create_task(replica.reconfigure(config.model_dump()))
        try:
            done, _ = await asyncio.wait({starting}, timeout=0.5)
            assert not done
            assert (await agent.state()).leases == ()
            known = config.model_copy(update={"device_groups": ((SLICE,),)})
            await replica.reconfigure(known.model_dump())
            await starting
            assert {entry for entry in environment_below(os.getpid()) if "VISIBLE_DEVICES" in entry} == {
                f"CUDA_VISIBLE_DEVICES={SLICE}",
                "ROCR_VISIBLE_DEVICES=",
            }
            async with asyncio.timeout(30):
                state = await agent.state()
                while not state.leases:
                    state = await agent.state(state.digest)
            (lease,) = state.leases
            assert (lease.devices, lease.device_bytes) == ((SLICE,), 4096 * MIB)
            free = {device.id: device.free_bytes for device in state.devices}
            assert free[SLICE] == (19968 - 4096) * MIB, "its memory without the lease"
            assert free[CARD] == 45000 * MIB
        finally:
            starting.cancel()
            await replica.__del__()
        async with asyncio.timeout(30):
            while state.leases:
                state = await agent.state(state.digest)
        assert {device.id: device.free_bytes for device in state.devices}[SLICE] == 19000 * MIB
