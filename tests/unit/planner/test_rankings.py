"""A model looks at nodes in the order of their free memory, and at no more of them than it needs."""

from __future__ import annotations

from roadstead.domain.model import VariantSpec
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact

FILE = "file:///models/small.gguf"
SMALL = artifact("small", mebibytes=100)
VARIANT = VariantSpec(name="q8", source=FILE)


def fleet_of(count: int) -> MemoryFleet:
    """Nodes with a little more memory each."""
    return MemoryFleet(
        nodes={
            f"node-{index:02}": MemoryNode(budget=(400 + index) * MIB, files={FILE: SMALL}) for index in range(count)
        }
    )


async def test_replicas_go_to_the_emptiest_nodes_of_many_one_each() -> None:
    fleet = fleet_of(40)
    key = fleet.apply("assistant", VARIANT, replicas=3)
    other = fleet.apply("other", VARIANT)
    await fleet.settle()
    assert set(fleet.running(key)) == {"node-39", "node-38", "node-37"}
    assert set(fleet.running(other)) == {"node-36"}, "what the first was promised is not offered to the next"


async def test_of_many_nodes_status_tells_a_few_and_how_many_it_does_not() -> None:
    fleet = fleet_of(40)
    key = fleet.apply("assistant", VARIANT, context_tokens=8192 * 40)
    await fleet.settle()
    status, reason, message = fleet.condition(key, "Placed")
    assert (status, reason) == ("False", "InsufficientRAM")
    assert "q8 on node-39: needs" in message, "the one with the most room is among them"
    assert message.count("bytes short") == 8
    assert message.endswith("32 more nodes are not told here")
