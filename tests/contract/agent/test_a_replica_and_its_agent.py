"""A replica's own class, without Ray, and a real node agent: memory granted, an engine that serves, memory told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from roadstead_worker.contract import MEMORY_STEP_BYTES, SlotArgs, SlotUserConfig, WeightPhase
from roadstead_worker.replica.slot import SlotReplica
from tests.fixtures.node_agent import node_agent
from tests.fixtures.ray_cell import smollm2

MIB = 1024**2

pytestmark = [
    pytest.mark.contract,
    pytest.mark.engines,
    # Ray awaits it; the interpreter, which knows nothing of that, calls it as well.
    pytest.mark.filterwarnings("ignore:coroutine 'SlotReplica.__del__' was never awaited"),
]


async def test_a_lease_tells_what_its_engine_really_holds_and_ends_with_the_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = smollm2()
    (tmp_path / "replica.token").write_text("secret")
    async with node_agent(tmp_path, memory_bytes=1024 * MIB, cores=1, source_roots=(model.parent,)) as agent:
        resolved = (await agent.resolve(f"file://{model}")).body
        await agent.fetch(f"file://{model}", resolved["digest"], resolved["bytes"])
        await agent.weight(resolved["digest"], WeightPhase.READY)
        monkeypatch.setenv("ROADSTEAD_STORE", str(agent.settings.store))
        monkeypatch.setenv("ROADSTEAD_NODE", "node-a")
        monkeypatch.setenv("ROADSTEAD_REPLICA_TOKEN_FILE", str(tmp_path / "replica.token"))
        monkeypatch.setenv("ROADSTEAD_LLAMA_SERVER", "-")
        args = SlotArgs(
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
        )
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
