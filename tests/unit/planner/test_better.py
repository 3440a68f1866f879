"""Room that has come free: who runs a lesser variant gets a better one, a few at a time, and nothing stops for it."""

from __future__ import annotations

from dataclasses import replace

from roadstead.domain.model import VariantSpec
from roadstead.domain.snapshot import Pool, WeightPhase
from roadstead.planner.rest import Rest
from tests.fixtures.memory_fleet import ENGINE, MIB, MemoryFleet, MemoryNode, artifact

FILES = {
    "file:///large.gguf": artifact("large", mebibytes=400, bits=16),
    "file:///small.gguf": artifact("small", mebibytes=80, bits=4.5),
}
"""A replica of the large one needs 517 MiB, of the small one 197."""
LARGE, SMALL = (VariantSpec(name=source[8:13], source=source) for source in FILES)


def node(mebibytes: int, **more: object) -> MemoryNode:
    return MemoryNode(budget=mebibytes * MIB, files=dict(FILES), **more)  # type: ignore[arg-type]


class Least:
    """The fewest replicas of a model that answered at any moment."""

    def __init__(self, fleet: MemoryFleet, model: object) -> None:
        self.answering = 100
        self._look = lambda: setattr(self, "answering", min(self.answering, fleet.answering(model)))  # type: ignore[arg-type]
        fleet.watch = self._look


async def test_a_model_gets_the_better_variant_on_its_node_when_both_fit_there() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(500)}, teardown_steps=2, check_rest=True)
    key = fleet.apply("assistant", LARGE, SMALL)
    await fleet.settle()
    assert fleet.running(key) == {"node-a": ("small", 1)}
    least = Least(fleet, key)

    fleet.nodes["node-a"].budget = 720 * MIB
    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("large", 1)}
    assert least.answering == 1


async def test_where_only_one_of_both_fits_it_stays_as_it_is() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(500)}, check_rest=True)
    key = fleet.apply("assistant", LARGE, SMALL)
    await fleet.settle()

    fleet.nodes["node-a"].budget = 700 * MIB
    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("small", 1)}


async def test_a_new_node_takes_the_better_variant_over() -> None:
    fleet = MemoryFleet(nodes={"node-z": node(300)}, check_rest=True)
    key = fleet.apply("assistant", LARGE, SMALL)
    await fleet.settle()
    assert fleet.running(key) == {"node-z": ("small", 1)}
    least = Least(fleet, key)

    fleet.nodes["node-a"] = node(800)
    await fleet.settle()

    assert fleet.running(key) == {"node-a": ("large", 1)}
    assert least.answering == 1


async def test_while_somebody_lacks_room_nobody_gets_a_better_variant() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(450), "node-b": node(600)}, check_rest=True)
    fleet.pools.append(Pool(name="second", node_selector=(("pool", "second"),), engines=(ENGINE,)))
    fleet.pools[0] = replace(fleet.pools[0], node_selector=(("pool", "first"),))
    fleet.nodes["node-a"].labels["pool"], fleet.nodes["node-b"].labels["pool"] = "first", "second"
    key = fleet.apply("assistant", LARGE, SMALL, pools=("local",))
    fleet.apply("a-served", LARGE, pools=("second",))
    lacking = fleet.apply("b-lacking", LARGE, pools=("second",))
    await fleet.settle()
    assert fleet.condition(lacking, "Placed")[1] == "InsufficientRAM"

    fleet.nodes["node-a"].budget = 800 * MIB
    await fleet.settle()
    assert fleet.running(key) == {"node-a": ("small", 1)}

    fleet.delete(lacking)
    await fleet.settle()
    assert fleet.running(key) == {"node-a": ("large", 1)}


async def test_a_model_that_is_too_large_for_any_node_keeps_nobody_from_a_better_variant() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(300)}, check_rest=True)
    key = fleet.apply("assistant", LARGE, SMALL)
    fleet.apply("huge", LARGE, context_tokens=262_144)
    await fleet.settle()
    fleet.nodes["node-a"].budget = 800 * MIB
    await fleet.settle()
    assert fleet.running(key) == {"node-a": ("large", 1)}


async def test_no_more_than_two_are_moved_at_a_time() -> None:
    number = 5
    fleet = MemoryFleet(nodes={f"node-{at}": node(300) for at in range(number)}, check_rest=True)
    keys = [fleet.apply(f"model-{at}", LARGE, SMALL) for at in range(number)]
    await fleet.settle()
    most = 0

    def look() -> None:
        nonlocal most
        slots = [app.slot.model for app in fleet.applications.values() if app.configured]
        most = max(most, len(slots) - len(set(slots)))

    fleet.watch = look
    for machine in fleet.nodes.values():
        machine.budget = 800 * MIB
    await fleet.settle(limit=200)

    assert [variant for key in keys for variant, _ in fleet.running(key).values()] == ["large"] * number
    assert most <= 2


async def test_while_the_better_weights_are_on_their_way_the_lesser_variant_serves_and_status_says_so() -> None:
    large = FILES["file:///large.gguf"].digest
    fleet = MemoryFleet(nodes={"node-a": node(300)}, check_rest=True)
    key = fleet.apply("assistant", LARGE, SMALL)
    await fleet.settle()
    fleet.nodes["node-a"].stalled.add(large)
    fleet.nodes["node-a"].budget = 800 * MIB
    await fleet.settle()

    assert fleet.nodes["node-a"].weights[large].phase is WeightPhase.FETCHING
    assert fleet.running(key) == {"node-a": ("small", 1)}
    assert fleet.condition(key, "Ready")[0] == "True"
    assert fleet.condition(key, "Progressing")[1] == "Fetching"

    fleet.nodes["node-a"].stalled.clear()
    await fleet.settle()
    assert fleet.running(key) == {"node-a": ("large", 1)}


async def test_a_difference_that_is_not_worth_a_move_moves_nothing() -> None:
    almost = VariantSpec(name="small", source=SMALL.source, quality=0.995)
    fleet = MemoryFleet(nodes={"node-a": node(300)}, check_rest=True)
    key = fleet.apply("assistant", LARGE, almost)
    await fleet.settle()
    fleet.nodes["node-a"].budget = 800 * MIB
    await fleet.settle()
    assert fleet.running(key) == {"node-a": ("small", 1)}


async def test_an_operator_that_starts_in_the_middle_goes_on() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(300)}, teardown_steps=2)
    key = fleet.apply("assistant", LARGE, SMALL)
    await fleet.settle()
    fleet.nodes["node-a"].budget = 800 * MIB
    for _ in range(12):
        await fleet.turn()
        fleet.step()
        fleet.restart_operator()
    await fleet.settle()
    assert fleet.running(key) == {"node-a": ("large", 1)}


async def test_who_was_looked_at_in_vain_waits_until_the_others_had_their_turn() -> None:
    fleet = MemoryFleet(nodes={})
    models = [fleet.models[fleet.apply(name, SMALL)] for name in ("first", "second", "third")]
    rest = Rest()
    for model in models[:2]:
        rest.note_in_vain(model)
    assert [model.key.name for model in rest.in_turns(models)] == ["third", "first", "second"]
    rest.note_in_vain(models[0])
    assert [model.key.name for model in rest.in_turns(models)] == ["third", "second", "first"]
