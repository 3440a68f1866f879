"""The node agent's doors: who may enter, what is told, and how errors look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest

from roadstead_worker.agent.node import CannotStart
from roadstead_worker.contract import NodeState, WeightPhase
from tests.fixtures.fake_nvml import fake_nvml
from tests.fixtures.gguf_files import Gguf
from tests.fixtures.lease_holder import holder
from tests.fixtures.node_agent import BANDWIDTH, TOKEN, NodeAgent, node_agent

pytestmark = pytest.mark.contract
MIB = 1024**2


def put_model(folder: Path, name: str = "tiny.gguf", content: bytes | None = None) -> str:
    path = folder / "models" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(Gguf().bytes() if content is None else content)
    return path.as_uri()


async def ready(agent: NodeAgent, folder: Path) -> str:
    """Resolve and fetch a model; its digest."""
    source = put_model(folder)
    resolved = await agent.resolve(source)
    digest = str(resolved.body["digest"])
    assert (await agent.fetch(source, digest, resolved.body["bytes"])).status == 202
    await agent.weight(digest, WeightPhase.READY)
    return digest


async def test_healthz_is_open_and_everything_else_demands_the_bearer(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent, aiohttp.ClientSession() as stranger:
        async with stranger.get(agent.url + "/healthz") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            async with stranger.get(agent.url + "/state", headers=header) as response:
                assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
                assert (await response.json())["code"] == "Unauthorized"


async def test_a_rotated_token_counts_at_once_and_a_missing_one_closes_the_door(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent:
        (tmp_path / "token").write_text("a-new-token")
        assert (await agent.ask("GET", "/state")).status == 401
        (tmp_path / "token").write_text("")
        assert (await agent.ask("GET", "/state")).code == "DoorClosed"
        (tmp_path / "token").unlink()
        assert (await agent.ask("GET", "/state")).status == 503
        (tmp_path / "token").write_text(TOKEN)
        assert (await agent.ask("GET", "/state")).status == 200


async def test_errors_are_problems_whatever_is_wrong(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent:
        digest = "sha256:" + "a" * 64
        fetch = {"source": "https://127.0.0.1/m.gguf", "bytes": 1}
        cases = [
            await agent.ask("GET", "/nothing"),
            await agent.ask("PATCH", "/state"),
            await agent.ask("GET", "/state?after=" + "x" * 500),
            await agent.ask("POST", "/resolve", {"source": 7}),
            await agent.ask("POST", "/resolve", {"source": "x", "more": 1}),
            await agent.ask("POST", "/resolve", {"source": "x", "digest": "sha256:../.."}),
            await agent.ask("POST", "/resolve", {"source": "x" * 2_000_000}),
            await agent.ask("PUT", "/weights/sha256:..%2F..%2Fx", fetch, epoch=1),
            await agent.ask("PUT", f"/weights/{digest}", fetch),
            await agent.ask("PUT", f"/weights/{digest}", {**fetch, "bytes": "7"}, epoch=1),
            await agent.ask("PUT", f"/weights/{digest}", {**fetch, "bytes": -1}, epoch=1),
            await agent.ask("DELETE", f"/weights/{digest}"),
        ]
        assert [(answer.status, answer.code) for answer in cases] == [
            (404, "NotFound"),
            (405, "MethodNotAllowed"),
            (400, "InvalidRequest"),
            (400, "InvalidRequest"),
            (400, "InvalidRequest"),
            (400, "InvalidRequest"),
            (413, "BodyTooLarge"),
            (400, "InvalidRequest"),
            (400, "EpochMissing"),
            (400, "InvalidRequest"),
            (400, "InvalidRequest"),
            (400, "EpochMissing"),
        ]
        assert all(answer.body["message"] for answer in cases)


async def test_an_older_leader_changes_nothing(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent:
        digest = await ready(agent, tmp_path)
        assert (await agent.fetch(put_model(tmp_path), digest, 1, epoch=5)).status == 202
        refused = await agent.ask("DELETE", f"/weights/{digest}", epoch=4)
        assert (refused.status, refused.code, refused.body["epoch"]) == (409, "StaleEpoch", 5)
        state = await agent.state()
        assert state.epoch == 5
        assert [weight.digest for weight in state.weights] == [digest]
    async with node_agent(tmp_path, store=await asyncio.to_thread(_kept_store, tmp_path, epoch=9)) as agent:
        assert (await agent.state()).epoch == 9


def _kept_store(folder: Path, *, epoch: int) -> Path:
    store = folder / "s"
    store.mkdir()
    (store / "epoch").write_text(f"{epoch}\n")
    return store


async def test_a_change_is_told_within_a_moment_and_an_idle_node_wakes_nobody(tmp_path: Path) -> None:
    budget = tmp_path / "budget.json"
    budget.write_text(json.dumps({"memory_bytes": 64 * MIB, "cores": 1}))
    # No disk to tell of: what else runs on this machine must not look like a change of this node.
    async with node_agent(tmp_path, budget_file=budget, disk_reserve_bytes=2**62) as agent:
        state = await agent.state()
        assert (state.memory.budget_bytes, state.memory.free_bytes, state.cores) == (64 * MIB, 64 * MIB, 1)
        waiting = asyncio.create_task(agent.state(state.digest))
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done, "nothing has changed over ten looks around"
        budget.write_text(json.dumps({"memory_bytes": 32 * MIB, "cores": 2}))
        async with asyncio.timeout(5):
            told = await waiting
        assert (told.memory.budget_bytes, told.memory.free_bytes, told.cores) == (32 * MIB, 32 * MIB, 2)


async def test_accelerators_are_told_and_their_idle_noise_wakes_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = tmp_path / "budget.json"
    budget.write_text(json.dumps({"memory_bytes": 64 * MIB, "cores": 1}))
    monkeypatch.setenv("FAKE_NVML_FREE", str(45000 * MIB))
    library = await asyncio.to_thread(fake_nvml, tmp_path)
    settings: dict[str, Any] = {
        "budget_file": budget,
        "disk_reserve_bytes": 2**62,
        "nvml": library,
        "devices_seconds": 0.05,
    }
    async with node_agent(tmp_path, **settings) as agent:
        state = await agent.state()
        assert state.hardware.memory_bandwidth == BANDWIDTH
        assert [(each.product, each.mig_profile) for each in state.devices] == [
            ("NVIDIA-L40S", ""),
            ("NVIDIA-A100-SXM4-40GB", "3g.20gb"),
            ("NVIDIA-A100-SXM4-40GB", "1g.5gb"),
        ]
        assert (state.devices[0].free_bytes, state.ambiguities) == (45000 * MIB, ())
        waiting = asyncio.create_task(agent.state(state.digest))
        monkeypatch.setenv("FAKE_NVML_FREE", str(44990 * MIB))
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done, "ten looks found 10 MiB less"
        monkeypatch.setenv("FAKE_NVML_FREE", str(20000 * MIB))
        async with asyncio.timeout(5):
            assert (await waiting).devices[0].free_bytes == 20000 * MIB


async def test_a_stopping_agent_answers_those_who_wait(tmp_path: Path) -> None:
    begun = monotonic()
    async with node_agent(tmp_path, budget_file=_budget(tmp_path)) as agent:
        state = await agent.state()
        waiting = asyncio.create_task(agent.state(state.digest))
        await asyncio.wait({waiting}, timeout=0.2)
        leaving = agent
    await asyncio.gather(waiting, return_exceptions=True)
    assert monotonic() - begun < 10, leaving.url


def _budget(folder: Path, memory: int = 64 * MIB) -> Path:
    (folder / "budget.json").write_text(json.dumps({"memory_bytes": memory, "cores": 1}))
    return folder / "budget.json"


async def test_a_replica_takes_a_lease_and_the_operator_sees_it(tmp_path: Path) -> None:
    async with node_agent(tmp_path, budget_file=_budget(tmp_path, 100 * MIB)) as agent:
        digest = await ready(agent, tmp_path)
        store = agent.settings.store
        with holder(store, "ns.m.c0ffee.a", child=True):
            lease = {
                "slot": "ns.m.c0ffee.a",
                "index": 0,
                "content": "c0ffee",
                "artifact": digest,
                "bytes": 48 * MIB,
            }
            granted = await agent.ask_as_replica("/leases", lease)
            assert granted.status == 200, granted
            assert Path(granted.body["path"]).read_bytes() == Gguf().bytes()
            assert granted.body["threads"] == 1

            memory = {"slot": "ns.m.c0ffee.a", "index": 0, "bytes": 40 * MIB}
            assert (await agent.ask_as_replica("/leases/memory", memory)).status == 204
            state = await _state_with(agent, lambda state: state.leases and state.leases[0].bytes_measured)
            assert (state.leases[0].bytes_granted, state.leases[0].bytes_measured) == (48 * MIB, 40 * MIB)
            assert state.memory.free_bytes == 52 * MIB
            negative = await agent.ask_as_replica("/leases/memory", {**memory, "bytes": -1})
            assert (negative.status, negative.code) == (400, "InvalidRequest")
            negative = await agent.ask_as_replica("/leases", {**lease, "device_bytes": -1})
            assert (negative.status, negative.body["field"]) == (400, "device_bytes")
            unknown = await agent.ask_as_replica("/leases", {**lease, "devices": ["GPU-of-another-node"]})
            assert (unknown.status, unknown.code) == (409, "DeviceUnknown")

            in_use = await agent.ask("DELETE", f"/weights/{digest}", epoch=1)
            assert (in_use.status, in_use.code) == (409, "ArtifactInUse")
            refused = await agent.ask_as_replica("/leases", {**lease, "bytes": 200 * MIB})
            assert (refused.status, refused.code) == (409, "InsufficientRAM")
        state = await _state_with(agent, lambda state: not state.leases)
        assert state.memory.free_bytes == 100 * MIB
        assert (await agent.ask("DELETE", f"/weights/{digest}", epoch=1)).status == 204
        assert (await agent.state()).weights == ()


async def _state_with(agent: NodeAgent, condition: Callable[[NodeState], object]) -> NodeState:
    async with asyncio.timeout(15):
        state = await agent.state()
        while not condition(state):
            state = await agent.state(state.digest)
    return state


async def test_a_lease_needs_an_artifact_that_is_here_and_a_lock_that_is_held(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent:
        lease = {"slot": "s", "index": 0, "content": "c", "artifact": "sha256:" + "a" * 64, "bytes": 1}
        assert (await agent.ask_as_replica("/leases", lease)).code == "ArtifactNotReady"
        lease["artifact"] = await ready(agent, tmp_path)
        assert (await agent.ask_as_replica("/leases", lease)).code == "LeaseNotHeld"
        assert (await agent.ask_as_replica("/leases", {**lease, "slot": "../../x"})).code == "InvalidRequest"
        assert (await agent.ask_as_replica("/leases", {**lease, "bytes": -1})).code == "InvalidRequest"


async def test_a_measurement_is_kept_and_told_and_is_a_number(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent:
        measured = {"content": "c0ffee", "slot": "s", "memory_bytes": 5, "load_seconds": 1.5, "tokens_per_second": 40.0}
        assert (await agent.ask_as_replica("/measurements", measured)).status == 204
        (told,) = (await agent.state()).measurements
        assert (told.content, told.memory_bytes, told.tokens_per_second) == ("c0ffee", 5, 40.0)
        for wrong in (float("nan"), float("inf"), "fast"):
            refused = await agent.ask_as_replica("/measurements", {**measured, "load_seconds": wrong})
            assert refused.status == 400
        assert (await agent.ask_as_replica("/measurements", {**measured, "content": "../x"})).status == 400


async def test_the_replicas_door_has_nothing_of_the_operators_and_the_other_way_round(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent:
        assert (await agent.ask("POST", "/leases", {})).status == 404
        assert (await agent.ask_as_replica("/resolve", {})).status == 404
        assert (agent.settings.store / "agent.sock").stat().st_mode & 0o777 == 0o600


async def test_a_second_agent_on_the_store_does_not_start_and_a_long_path_is_named(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent:
        with pytest.raises(CannotStart, match="owns the store"):
            async with node_agent(tmp_path, store=agent.settings.store):
                pass
        assert (await agent.state()).node == "node-a"
    with pytest.raises(CannotStart, match="longer than a unix socket"):
        async with node_agent(tmp_path, store=tmp_path / ("x" * 120)):
            pass


async def test_a_stale_socket_of_a_killed_agent_is_replaced(tmp_path: Path) -> None:
    store = tmp_path / "s"
    store.mkdir()
    (store / "agent.sock").write_bytes(b"")
    async with node_agent(tmp_path, store=store) as agent:
        assert (await agent.ask_as_replica("/leases", {})).code == "InvalidRequest"
        assert (store / "agent.sock").is_socket()


async def test_an_agent_whose_engines_run_elsewhere_tells_the_budget_that_it_was_told(tmp_path: Path) -> None:
    async with node_agent(tmp_path, memory_bytes=5 * MIB, cores=3, engine_offers=()) as agent:
        state = await agent.state()
    assert (state.memory.budget_bytes, state.memory.free_bytes, state.cores, state.engines) == (5 * MIB, 5 * MIB, 3, ())
