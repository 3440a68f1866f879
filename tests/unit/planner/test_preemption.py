"""Priority: where there is not room for all, the higher model takes it from the lower, and from nobody else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from roadstead.domain.model import ModelKey, VariantSpec
from roadstead.domain.snapshot import WeightPhase
from roadstead.planner.needs import bytes_needed
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact

FILES = {
    "file:///large.gguf": artifact("large", mebibytes=400, bits=16),
    "file:///small.gguf": artifact("small", mebibytes=80, bits=4.5),
}
LARGE, SMALL = (VariantSpec(name=source[8:13], source=source) for source in FILES)


def node(mebibytes: int, **more: object) -> MemoryNode:
    return MemoryNode(budget=mebibytes * MIB, files=dict(FILES), **more)  # type: ignore[arg-type]


async def test_a_model_of_higher_priority_takes_the_room_of_a_lower_one() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(600)}, teardown_steps=3)
    low = fleet.apply("low", LARGE)
    await fleet.settle()

    high = fleet.apply("high", LARGE, priority=100)
    await fleet.settle()

    assert fleet.running(high) == {"node-a": ("large", 1)}
    assert fleet.running(low) == {}
    assert fleet.condition(low, "Placed")[0] == "False"


async def test_between_equals_nothing_is_taken_away() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(600)})
    first = fleet.apply("first", LARGE, priority=7)
    await fleet.settle()

    second = fleet.apply("second", LARGE, priority=7)
    await fleet.settle()

    assert (fleet.running(first), fleet.running(second)) == ({"node-a": ("large", 1)}, {})
    assert fleet.condition(second, "Placed")[1] == "InsufficientRAM"


async def test_nothing_is_taken_away_for_a_better_variant() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(800)})
    low = fleet.apply("low", LARGE)
    await fleet.settle()

    high = fleet.apply("high", LARGE, SMALL, priority=100)
    await fleet.settle()

    assert fleet.running(low) == {"node-a": ("large", 1)}
    assert fleet.running(high) == {"node-a": ("small", 1)}


async def test_nobody_leaves_before_the_weights_of_the_higher_model_are_there() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(600, stalled={FILES["file:///small.gguf"].digest})})
    low = fleet.apply("low", LARGE)
    await fleet.settle()

    high = fleet.apply("high", SMALL, priority=100)
    fleet.nodes["node-a"].budget = 520 * MIB
    await fleet.settle()
    assert fleet.running(low) == {"node-a": ("large", 1)}
    weight = fleet.nodes["node-a"].weights[FILES["file:///small.gguf"].digest]
    assert weight.phase is WeightPhase.FETCHING
    assert "fetching weights" in fleet.condition(high, "Ready")[2]

    fleet.nodes["node-a"].stalled.clear()
    await fleet.settle()
    assert (fleet.running(high), fleet.running(low)) == ({"node-a": ("small", 1)}, {})


async def test_the_lower_model_moves_first_where_another_node_has_room() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(600), "node-b": node(300)})
    fleet.nodes["node-a"].labels["disk"] = "fast"
    low = fleet.apply("low", LARGE, SMALL)
    await fleet.settle()
    assert fleet.running(low) == {"node-a": ("large", 1)}
    least = 100

    def look() -> None:
        nonlocal least
        least = min(least, fleet.answering(low))

    fleet.watch = look
    high = fleet.apply("high", LARGE, priority=1)
    await fleet.settle()

    assert fleet.running(high) == {"node-a": ("large", 1)}
    assert fleet.running(low) == {"node-b": ("small", 1)}
    assert least == 1


async def test_the_lower_model_stays_in_a_smaller_variant_where_there_is_room_for_that() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(800)})
    low = fleet.apply("low", LARGE, SMALL)
    await fleet.settle()
    high = fleet.apply("high", LARGE, priority=1)
    await fleet.settle()

    assert fleet.running(high) == {"node-a": ("large", 1)}
    assert fleet.running(low) == {"node-a": ("small", 1)}


async def test_of_several_the_lowest_gives_way_and_no_more_than_has_to() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(450)})
    middle = fleet.apply("middle", SMALL, priority=5)
    lowest = fleet.apply("lowest", SMALL, priority=1)
    await fleet.settle()
    high = fleet.apply("high", SMALL, priority=9)
    await fleet.settle()

    assert fleet.running(high) == fleet.running(middle) == {"node-a": ("small", 1)}
    assert fleet.running(lowest) == {}


async def test_status_says_for_whom_a_model_gives_way() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(600)})
    low = fleet.apply("low", LARGE)
    await fleet.settle()
    slot = next(iter(fleet.applications))
    fleet.in_flight[slot] = 1
    fleet.apply("high", LARGE, priority=100)
    await fleet.settle()

    told = fleet.statuses[low]
    assert fleet.condition(low, "Placed")[1] == "PreemptedByPriority"
    assert "gives way to team/high, whose priority is 100" in told.slots[0].message
    assert fleet.applications[slot].configured, "a request is under way"


async def test_a_model_whose_priority_is_lowered_again_keeps_what_it_has() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(600)})
    low = fleet.apply("low", LARGE)
    await fleet.settle()
    high = fleet.apply("high", LARGE, priority=1)
    await fleet.settle()
    fleet.apply("high", LARGE)
    await fleet.settle()
    assert (fleet.running(high), fleet.running(low)) == ({"node-a": ("large", 1)}, {})


@settings(max_examples=80, deadline=None)
@given(data=st.data())
async def test_nothing_of_a_lower_priority_holds_room_that_would_place_something_of_a_higher_one(
    data: st.DataObject,
) -> None:
    budgets = data.draw(st.lists(st.integers(150, 1200), min_size=1, max_size=4), label="budgets")
    fleet = MemoryFleet(
        nodes={f"node-{at}": node(size) for at, size in enumerate(budgets)}, teardown_steps=2, check_rest=True
    )
    keys: list[ModelKey] = []
    for at in range(data.draw(st.integers(2, 6), label="models")):
        ladder = data.draw(st.sampled_from([(LARGE,), (SMALL,), (LARGE, SMALL)]), label="ladder")
        replicas, priority = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 2))
        keys.append(fleet.apply(f"model-{at}", *ladder, replicas=replicas, priority=priority))
        for _ in range(data.draw(st.integers(0, 4), label="turns")):
            await fleet.turn()
            fleet.step()
    await fleet.settle(limit=200)

    slots = [app.slot for app in fleet.applications.values() if app.configured]
    for name, machine in fleet.nodes.items():
        assert sum(slot.memory_bytes * slot.replicas for slot in slots if slot.node == name) <= machine.budget
    for key in keys:
        model = fleet.models[key]
        if fleet.configured_replicas(key) == model.checked_spec.replicas:
            continue
        least = _least_needed(fleet, key)
        for name, machine in fleet.nodes.items():
            held = [slot for slot in slots if slot.node == name]
            above = [slot for slot in held if fleet.models[slot.model].priority >= model.priority]
            assert least > machine.budget - sum(slot.memory_bytes * slot.replicas for slot in above)


def _least_needed(fleet: MemoryFleet, key: ModelKey) -> int:
    """Bytes that its smallest variant surely runs with: less may be tried, but nobody leaves for a try."""
    release = fleet.releases[fleet.models[key].uid][-1]
    return min(bytes_needed(content, ()) for content in release.contents)
