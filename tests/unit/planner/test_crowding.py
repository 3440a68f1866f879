"""A node whose budget was lowered: what does not fit any more goes elsewhere or gets smaller, and nothing stops."""

from __future__ import annotations

import pytest

from roadstead.domain.model import ModelKey, VariantSpec
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact

LARGE = artifact("large", mebibytes=400, bits=16)
SMALL = artifact("small", mebibytes=80, bits=4.5)
FILES = {"file:///large.gguf": LARGE, "file:///small.gguf": SMALL}
LADDER = tuple(VariantSpec(name=source[8:13], source=source) for source in FILES)


def node(mebibytes: int) -> MemoryNode:
    return MemoryNode(budget=mebibytes * MIB, files=dict(FILES))


class Served:
    """The fewest replicas that answered at any moment."""

    def __init__(self, fleet: MemoryFleet, key: ModelKey) -> None:
        self.least = 100
        self._fleet, self._key = fleet, key
        fleet.watch = self._look

    def _look(self) -> None:
        route = self._fleet.seen_routes.get(self._key)
        slots = route.slots if route is not None else ()
        self.least = min(self.least, sum(len(slot.addresses) for slot in slots if not slot.draining))


@pytest.mark.parametrize("other", [600, 1200])
async def test_on_a_node_that_shrinks_the_smaller_variant_takes_over_while_the_other_node_serves(other: int) -> None:
    """Also where the other node could take both: room that an ending engine still holds is counted on."""
    fleet = MemoryFleet(nodes={"node-a": node(other), "node-b": node(600)}, teardown_steps=3)
    key = fleet.apply("assistant", *LADDER, replicas=2)
    await fleet.settle()
    assert fleet.running(key) == {"node-a": ("large", 1), "node-b": ("large", 1)}
    served = Served(fleet, key)

    fleet.nodes["node-b"].budget = 300 * MIB
    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("large", 1), "node-b": ("small", 1)}
    assert served.least == 1
    assert "not on node-b: needs" in {row.name: row for row in fleet.statuses[key].variants}["large"].verdict.message


async def test_where_another_node_has_room_it_serves_before_the_crowded_one_stops() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(600), "node-b": node(300)})
    key = fleet.apply("assistant", *LADDER)
    await fleet.settle()
    assert fleet.running(key) == {"node-a": ("large", 1)}
    served = Served(fleet, key)

    fleet.nodes["node-c"] = node(600)
    fleet.nodes["node-a"].budget = 200 * MIB
    await fleet.settle()

    assert fleet.running(key) == {"node-c": ("large", 1)}
    assert served.least == 1


async def test_the_only_replica_is_not_stopped_for_a_budget() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(600)})
    key = fleet.apply("assistant", *LADDER)
    await fleet.settle()

    fleet.nodes["node-a"].budget = 300 * MIB
    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("large", 1)}
    assert "bytes short" in fleet.condition(key, "Placed")[2]


async def test_the_youngest_model_gives_way_and_no_more_than_has_to() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(1000), "node-b": node(300)})
    keys = []
    for name in ("first", "second", "third"):
        keys.append(fleet.apply(name, LADDER[1]))
        await fleet.settle()
        fleet.step()
    before = {key: fleet.running(key) for key in keys}
    assert all(running == {"node-a": ("small", 1)} for running in before.values())

    fleet.nodes["node-a"].budget = 480 * MIB
    await fleet.settle()

    assert [fleet.running(key) for key in keys] == [
        {"node-a": ("small", 1)}, {"node-a": ("small", 1)}, {"node-b": ("small", 1)},
    ]  # fmt: skip


async def test_of_a_slot_with_several_replicas_only_those_without_room_go() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(800)})
    key = fleet.apply("assistant", LADDER[1], replicas=3)
    await fleet.settle()
    assert fleet.running(key) == {"node-a": ("small", 3)}

    fleet.nodes["node-a"].budget = 400 * MIB
    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("small", 2)}
    status, reason, message = fleet.condition(key, "Placed")
    assert (status, reason) == ("False", "InsufficientRAM")
    assert message.startswith("1 of 3 replicas fit nowhere. small on node-a: needs ")


@pytest.mark.parametrize("lowered", [590, 520])
async def test_a_budget_that_still_holds_what_was_promised_moves_nothing(lowered: int) -> None:
    fleet = MemoryFleet(nodes={"node-a": node(600), "node-b": node(600)})
    key = fleet.apply("assistant", *LADDER, replicas=2)
    await fleet.settle()
    before = set(fleet.applications)

    fleet.nodes["node-b"].budget = lowered * MIB
    await fleet.settle()

    assert set(fleet.applications) == before
    assert fleet.running(key) == {"node-a": ("large", 1), "node-b": ("large", 1)}
