"""Tokens a second that a team asks for: kept where they were seen to be given, and never refused on a guess."""

from __future__ import annotations

import pytest

from roadstead.domain.model import VariantSpec
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact

LARGE = artifact("large", mebibytes=400, bits=16)
SMALL = artifact("small", mebibytes=80, bits=4.5)
FILES = {"file:///large.gguf": LARGE, "file:///small.gguf": SMALL}
LADDER = tuple(VariantSpec(name=source[8:13], source=source) for source in FILES)


def node(mebibytes: int, *, reads: float) -> MemoryNode:
    """``reads`` is in MiB a second."""
    return MemoryNode(budget=mebibytes * MIB, files=dict(FILES), reads=reads * MIB)


async def test_a_variant_that_is_too_slow_gives_way_to_a_smaller_one_on_the_same_node() -> None:
    fleet = MemoryFleet(nodes={"n0": node(1000, reads=4000)})  # large: 10 tokens a second, small: 50
    key = fleet.apply("assistant", *LADDER, min_tokens_per_second=20)

    await fleet.settle()

    assert fleet.running(key) == {"n0": ("small", 1)}
    large = {row.name: row for row in fleet.statuses[key].variants}["large"]
    assert large.verdict.reason == "SpeedBelowRequirement"
    assert "10.0 tokens/s are measured, requirements.minTokensPerSecond is 20" in large.verdict.message


async def test_a_node_where_something_else_was_seen_to_be_slow_is_not_tried() -> None:
    fleet = MemoryFleet(nodes={"slow": node(2000, reads=4000), "fast": node(700, reads=40_000)})
    for name in ("slow", "fast"):
        fleet.apply(f"on-{name}", LADDER[1])
    await fleet.settle()
    key = fleet.apply("assistant", LADDER[0], min_tokens_per_second=20)

    await fleet.settle()

    assert fleet.running(key) == {"fast": ("large", 1)}
    assert "not on slow: 10.0 tokens/s are expected" in fleet.statuses[key].variants[0].verdict.message


async def test_where_nothing_was_measured_nothing_is_refused() -> None:
    fleet = MemoryFleet(nodes={"n0": node(1000, reads=0)})
    key = fleet.apply("assistant", *LADDER, min_tokens_per_second=1000)

    await fleet.settle()

    assert fleet.running(key) == {"n0": ("large", 1)}


async def test_what_is_too_slow_everywhere_serves_on_and_says_so() -> None:
    fleet = MemoryFleet(nodes={"n0": node(1000, reads=4000), "n1": node(1000, reads=4000)})
    key = fleet.apply("assistant", LADDER[0], min_tokens_per_second=20)

    await fleet.settle()

    assert [ready for _, ready in fleet.running(key).values()] == [1]
    status, reason, message = fleet.condition(key, "Placed")
    assert (status, reason) == ("False", "SpeedBelowRequirement")
    assert "10.0 tokens/s are measured" in message


@pytest.mark.parametrize(("required", "moves"), [(12, False), (13, True)])
async def test_what_serves_moves_only_when_it_is_clearly_slower(required: float, moves: bool) -> None:
    fleet = MemoryFleet(nodes={"n0": node(1000, reads=4000)})
    key = fleet.apply("assistant", *LADDER)
    await fleet.settle()
    assert fleet.running(key) == {"n0": ("large", 1)}

    fleet.apply("assistant", *LADDER, min_tokens_per_second=required)
    await fleet.settle()

    assert fleet.running(key) == {"n0": ("small" if moves else "large", 1)}
    assert fleet.release_number(key) == 1
