"""`kubectl delete` ends a model in whatever phase it is, and nothing of it is left.

While it serves: see ``test_kubectl.py``.
"""

from __future__ import annotations

import pytest

from roadstead.embedded.example_model import example_weights
from tests.fixtures.embedded_fleet import EmbeddedFleet
from tests.fixtures.model_host import ModelHost, model_host
from tests.fixtures.patience import found

pytestmark = [pytest.mark.integration, pytest.mark.engines]


async def test_a_model_is_deleted_while_its_source_is_being_resolved(fleet: EmbeddedFleet, anchor: str) -> None:
    async with model_host(_weights()) as host:
        host.wall = 1000
        fleet.apply("resolving", {"q4": host.url})
        await fleet.until_model("resolving", "Resolved", "Resolving")
        await found(lambda: _asked(host), "a request for the header")
        await fleet.delete("resolving")


async def test_a_model_is_deleted_while_its_weights_are_being_fetched(fleet: EmbeddedFleet, anchor: str) -> None:
    # Other bytes at the end make another digest: these weights are on no node yet.
    async with model_host(_weights() + b"\0" * 32) as host:
        host.wall = 16 << 20
        ladder = [{"name": "q4", "source": host.url, "digest": host.digest}]
        fleet.apply_spec("fetching", {"variants": ladder, "requirements": {"contextTokens": 512}})
        await fleet.until_model("fetching", "Ready", "Fetching")
        await found(lambda: _fetches(fleet, host.digest), "a fetch under way")
        await fleet.delete("fetching")


async def test_a_model_is_deleted_while_its_engine_is_starting(fleet: EmbeddedFleet, anchor: str) -> None:
    fleet.apply("starting", {"q4": fleet.weights.q4}, requirements={"contextTokens": 512})
    await found(lambda: _deploys(fleet, "starting"), "an application of it", seconds=20)
    model = fleet.model("starting")
    assert model is not None
    assert not model.is_true("Ready")
    await fleet.delete("starting")


async def _asked(host: ModelHost) -> bool | None:
    return bool(host.ranges) or None


async def _fetches(fleet: EmbeddedFleet, digest: str) -> bool | None:
    states = [await fleet.node(node) for node in ("node-a", "node-b")]
    return any(each.digest == digest and each.phase == "Fetching" for state in states for each in state.weights) or None


async def _deploys(fleet: EmbeddedFleet, name: str) -> bool | None:
    return any(f".{name}." in each.name for each in (await fleet.cell()).applications) or None


def _weights() -> bytes:
    original = example_weights()
    assert original is not None
    return original.read_bytes()
