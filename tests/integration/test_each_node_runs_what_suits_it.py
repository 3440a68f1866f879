"""Two precisions of one model on two nodes of different memory, behind one name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.embedded_fleet import EmbeddedFleet
from tests.fixtures.patience import found
from tests.fixtures.steady_client import SteadyClient, steady_client

pytestmark = [pytest.mark.integration, pytest.mark.engines]

_LESS = 20
"""Mebibytes that are taken from a full node: Q8_0 needs about 50 more than Q4_0."""
_ROOMY, _TIGHT = 700, 300
"""Mebibytes free on node-a and node-b. With 1,024 tokens BF16 needs 350 of them, Q8_0 230, Q4_1 185 and Q4_0 181."""


@pytest.fixture
async def uneven(fleet: EmbeddedFleet, anchor: str) -> None:
    """The two nodes with different memory left, whatever else runs there."""
    for node, mebibytes in (("node-a", _ROOMY), ("node-b", _TIGHT)):
        settled = f"only {anchor} is left on {node}"
        used = await found(partial(_used, fleet, node, only=anchor), settled)
        fleet.budget(node, used + mebibytes)


@pytest.fixture(autouse=True)
def _as_before(fleet: EmbeddedFleet) -> Iterator[None]:
    yield
    fleet.kubectl("delete", "lm/ladder", "--ignore-not-found", "--timeout=60s")
    fleet.restore_budgets()


async def test_each_node_runs_the_variant_that_suits_it_and_status_says_why(fleet: EmbeddedFleet, uneven: None) -> None:
    variants = {"bf16": fleet.weights.bf16, "q4": fleet.weights.q4}
    fleet.apply("ladder", variants, requirements={"contextTokens": 1024}, replicas=2)
    model = await fleet.until_model("ladder", "Ready")
    assert {slot["node"]: slot["variant"] for slot in model.slots} == {"node-a": "bf16", "node-b": "q4"}

    best, small = model.variant("bf16"), model.variant("q4")
    assert (best["verdict"], best["chosen"]) == ("Chosen", 1)
    assert "1 on node-a" in best["message"]
    assert "not on node-b: needs" in best["message"]
    assert "bytes short" in best["message"]
    assert (small["verdict"], small["chosen"]) == ("Chosen", 1)
    assert "not on node-a: bf16 is better and fits" in small["message"]
    assert best["quality"] > small["quality"]

    served: set[tuple[str, str]] = set()

    async def both() -> bool | None:
        headers = (await fleet.answers("ladder")).headers
        served.add((headers["x-roadstead-variant"], headers["x-roadstead-node"]))
        return len(served) == 2 or None

    await found(both, lambda: f"answers from both, only {served}", seconds=20)
    assert served == {("bf16", "node-a"), ("q4", "node-b")}


async def test_on_a_node_that_shrinks_the_next_smaller_variant_takes_over_and_no_request_fails(
    fleet: EmbeddedFleet, anchor: str, uneven: None, tmp_path: Path
) -> None:
    ladder = [
        {"name": "bf16", "source": fleet.weights.bf16, "quality": 1.0},
        {"name": "q8", "source": fleet.weights.q8, "quality": 0.99},
        {"name": "q4", "source": fleet.weights.q4_0, "quality": 0.87},
    ]
    fleet.apply_spec("ladder", {"variants": ladder, "replicas": 2, "requirements": {"contextTokens": 1024}})
    model = await fleet.until_model("ladder", "Ready")
    assert {slot["node"]: slot["variant"] for slot in model.slots} == {"node-a": "bf16", "node-b": "q8"}
    await fleet.answers("ladder")

    told: dict[str, Any] = {}
    url, key, log = fleet.fleet.gateway_url, fleet.fleet.api_key, tmp_path / "asked.jsonl"
    with steady_client(url, key=key, model="ladder", log=log) as client:
        state = (await fleet.node("node-b")).memory
        fleet.budget("node-b", (state.budget_bytes - state.free_bytes >> 20) - _LESS)

        async def smaller() -> bool | None:
            told.update((await fleet.until_model("ladder", "Ready")).status)
            where = {slot["node"]: slot["variant"] for slot in told["slots"]}
            return where == {"node-a": "bf16", "node-b": "q4"} or None

        await found(smaller, lambda: f"q4 serves on node-b: {told}", seconds=120)
        asked = len(client.asked())
        await found(partial(_more_than, client, asked + 10), "ten further requests have ended", seconds=60)
    assert client.failures() == []
    message = (await fleet.until_model("ladder", "Ready")).variant("q8")["message"]
    assert "not on node-b: needs" in message


async def _more_than(client: SteadyClient, number: int) -> bool | None:
    return len(client.asked()) > number or None


async def _used(fleet: EmbeddedFleet, node: str, *, only: str) -> int | None:
    """Mebibytes; None while an engine of another model, deleted a moment ago, still holds some that will come free."""
    state = await fleet.node(node)
    if any(f".{only}." not in lease.slot for lease in state.leases):
        return None
    memory = state.memory
    return (memory.budget_bytes - memory.free_bytes) >> 20
