"""Two precisions of one model on two nodes of different memory, behind one name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.fixtures.embedded_fleet import EmbeddedFleet
from tests.fixtures.patience import found

pytestmark = [pytest.mark.integration, pytest.mark.engines]

_ROOMY, _TIGHT = 700, 300
"""Mebibytes free on node-a and node-b. With 1,024 tokens BF16 needs about 390 of them and Q4_1 about 210."""


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


async def _used(fleet: EmbeddedFleet, node: str, *, only: str) -> int | None:
    """Mebibytes; None while an engine of another model, deleted a moment ago, still holds some that will come free."""
    state = await fleet.node(node)
    if any(f".{only}." not in lease.slot for lease in state.leases):
        return None
    memory = state.memory
    return (memory.budget_bytes - memory.free_bytes) >> 20
