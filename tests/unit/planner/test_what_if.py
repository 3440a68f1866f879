"""What would follow if nodes went or came, or models were applied: the plan's own answer; nothing is done for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roadstead.domain.inventory import Device, DeviceSlice, Vendor
from roadstead.domain.model import ModelKey, ModelSpec, PlacementPolicy, Requirements, VariantSpec
from roadstead.domain.snapshot import Resolved, Unresolved, answered
from roadstead.domain.supposition import Difference, NoSuchNode, Place, Supposition, Wish
from roadstead.planner.fleet import plan
from roadstead.planner.rest import Rest
from roadstead.planner.what_if import suppose, what_if
from roadstead.services.observe import observe
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact

LARGE = artifact("large", mebibytes=400, bits=16)
SMALL = artifact("small", mebibytes=80, bits=4.5)
FILES = {"file:///large.gguf": LARGE, "file:///small.gguf": SMALL}
LADDER = tuple(VariantSpec(name=source[8:13], source=source) for source in FILES)
KEY = ModelKey("team", "assistant")
NEW = ModelKey("team", "new")
USUAL = Requirements(context_tokens=2048)


def node(mebibytes: int) -> MemoryNode:
    return MemoryNode(budget=mebibytes * MIB, files=dict(FILES))


async def settled(replicas: int = 1, **nodes: int) -> MemoryFleet:
    fleet = MemoryFleet(nodes={name: node(size) for name, size in nodes.items()})
    fleet.apply("assistant", *LADDER, replicas=replicas)
    await fleet.settle()
    return fleet


def asked(fleet: MemoryFleet, **changes: tuple[object, ...]) -> tuple[Difference, ...]:
    snapshot = observe(fleet.ports, fleet.resolutions)
    return what_if(snapshot, fleet.now, Supposition(**changes)).differences  # type: ignore[arg-type]


async def test_a_drained_node_s_replicas_move_to_where_there_is_room_in_the_variant_that_fits_there() -> None:
    fleet = await settled(a=600, b=300)

    (found,) = asked(fleet, drained=("a",))

    assert found.model == KEY
    assert (found.stops, found.starts) == ((Place("a", "large", 1),), (Place("b", "small", 1),))
    assert (found.pending, found.pending_then, found.why) == (0, 0, "")


async def test_what_would_find_no_place_is_told_with_the_bytes_that_are_missing() -> None:
    fleet = await settled(a=600, b=100)

    (found,) = asked(fleet, drained=("a",))

    assert (found.starts, found.pending, found.pending_then) == ((), 0, 1)
    assert "bytes short" in found.why


async def test_a_node_that_nothing_runs_on_can_go_without_a_difference() -> None:
    fleet = await settled(a=600, b=300)

    assert asked(fleet, drained=("b",)) == ()


async def test_nodes_like_another_take_what_found_no_place() -> None:
    fleet = await settled(replicas=3, a=200)

    (found,) = asked(fleet, added=(("a", 2),))

    assert found.stops == ()
    assert found.starts == (Place("a-like-1", "small", 1), Place("a-like-2", "small", 1))
    assert (found.pending, found.pending_then) == (2, 0)


async def test_a_node_may_go_and_another_like_it_come() -> None:
    fleet = await settled(a=600)

    (found,) = asked(fleet, drained=("a",), added=(("a", 1),))

    assert (found.stops, found.starts) == ((Place("a", "large", 1),), (Place("a-like-1", "large", 1),))


async def test_a_node_that_there_is_not_is_named() -> None:
    fleet = await settled(a=600)

    with pytest.raises(NoSuchNode, match="elsewhere"):
        asked(fleet, drained=("elsewhere",))


async def test_nothing_of_it_is_remembered() -> None:
    fleet = await settled(a=600, b=300)
    snapshot, rest = observe(fleet.ports, fleet.resolutions), Rest()
    before = plan(snapshot, fleet.now, rest)

    assert what_if(snapshot, fleet.now, Supposition(drained=("a",)), rest).differences != ()

    assert plan(snapshot, fleet.now, rest) == before
    assert not before.actions


async def test_an_added_node_has_another_name_and_nothing_of_the_other_s() -> None:
    fleet = await settled(a=600)
    snapshot = observe(fleet.ports, fleet.resolutions)

    another = Supposition(added=(("a", 1),))
    supposed = suppose(suppose(snapshot, fleet.now, another), fleet.now, another)

    assert sorted(supposed.nodes) == ["a", "a-like-1", "a-like-2"]
    facts = supposed.agents["a-like-2"].value  # type: ignore[union-attr]
    assert (facts.free_bytes, facts.weights, facts.leases) == (600 * MIB, (), ())


async def test_an_added_node_has_the_accelerators_of_the_other_and_all_their_memory_free() -> None:
    fleet = await settled(a=600)
    card = Device(id="GPU-0", vendor=Vendor.NVIDIA, product="NVIDIA-L4", memory_bytes=24 * MIB, free_bytes=MIB)
    published = DeviceSlice(node="a", driver="gpu.nvidia.com", pool="a", generation=1, slices=1, devices=())
    fleet.nodes["a"].devices, fleet.nodes["a"].device_slices = (card,), (published,)

    supposed = suppose(observe(fleet.ports, fleet.resolutions), fleet.now, Supposition(added=(("a", 1),)))

    facts = supposed.agents["a-like-1"].value  # type: ignore[union-attr]
    assert facts.devices == (replace(card, free_bytes=24 * MIB),)
    assert supposed.device_slices["a-like-1"] == (published,)


def wish(
    key: ModelKey = NEW,
    *variants: VariantSpec,
    replicas: int = 1,
    requirements: Requirements = USUAL,
    priority: int = 0,
) -> Wish:
    spec = ModelSpec(
        served_name=key.name,
        variants=variants or LADDER,
        replicas=replicas,
        requirements=requirements,
        placement=PlacementPolicy(priority=priority),
    )
    return Wish(key, spec)


async def test_a_model_that_would_be_applied_is_told_with_its_places() -> None:
    fleet = await settled(a=600, b=300)

    (found,) = asked(fleet, applied=(wish(),))

    assert (found.model, found.stops, found.starts) == (NEW, (), (Place("b", "small", 1),))
    assert (found.pending, found.pending_then, found.why) == (0, 0, "")


async def test_a_new_model_is_told_also_where_it_would_have_no_place() -> None:
    fleet = await settled(a=600)

    (found,) = asked(fleet, applied=(wish(),))

    assert (found.starts, found.pending, found.pending_then) == ((), 0, 1)
    assert found.why.startswith("1 of 1 replicas fit nowhere.")


async def test_what_a_model_that_wants_more_leaves_to_another_is_told_of_both() -> None:
    fleet = await settled(a=600)
    waiting = fleet.apply("waiting", *LADDER)
    await fleet.settle()

    found = {each.model: each for each in asked(fleet, added=(("a", 1),))}
    assert found[waiting].starts == (Place("a-like-1", "large", 1),)

    found = {each.model: each for each in asked(fleet, added=(("a", 1),), applied=(wish(KEY, replicas=2),))}
    assert found[KEY].starts == found[waiting].starts == (Place("a-like-1", "small", 1),)


async def test_another_context_stops_a_variant_and_starts_it_anew() -> None:
    fleet = await settled(a=1200)

    (found,) = asked(fleet, applied=(wish(KEY, requirements=Requirements(context_tokens=4096)),))

    assert found.stops == found.starts == (Place("a", "large", 1),)


async def test_a_model_that_would_stay_as_it_is_is_not_told() -> None:
    fleet = await settled(a=600)

    assert asked(fleet, applied=(wish(KEY),)) == ()


async def test_what_only_stands_in_for_a_release_without_room_is_pending() -> None:
    fleet = await settled(a=600)

    (found,) = asked(fleet, applied=(wish(KEY, LADDER[0], requirements=Requirements(context_tokens=65536)),))

    assert (found.stops, found.starts, found.pending_then) == ((), (), 1)
    assert "bytes short" in found.why


async def test_of_a_source_that_nobody_has_looked_at_agents_are_asked_first() -> None:
    fleet = await settled(a=600)
    unknown = wish(NEW, VariantSpec(name="other", source="https://models.example/other.gguf?sig=SECRET"))
    supposition = Supposition(applied=(unknown,))
    snapshot = observe(fleet.ports, fleet.resolutions)

    told = what_if(snapshot, fleet.now, supposition)

    (question,) = told.questions
    assert told.differences[0].why.startswith("other: asking what is behind its source")
    there = answered(snapshot, {question: Resolved(artifact=artifact("tiny", mebibytes=20))})
    assert what_if(there, fleet.now, supposition).differences[0].starts == ()
    assert "bytes short" in what_if(there, fleet.now, supposition).differences[0].why
    refused = Unresolved(code="SourceNotFound", message="is gone", at=fleet.now)
    gone = what_if(answered(snapshot, {question: refused}), fleet.now, supposition)
    assert (gone.questions, gone.differences[0].why) == ((), "other: is gone; waits for a release")


async def test_models_of_other_people_ask_nothing() -> None:
    fleet = await settled(a=600)
    fleet.apply("unresolved", VariantSpec(name="x", source="file:///elsewhere.gguf"))

    assert what_if(observe(fleet.ports, fleet.resolutions), fleet.now, Supposition(drained=("a",))).questions == ()


async def test_two_models_that_would_come_together_share_the_room() -> None:
    fleet = await settled(a=600, b=300, c=300)

    found = asked(fleet, applied=(wish(), wish(ModelKey("team", "other"))))

    assert [(each.model.name, each.starts[0].variant, each.pending_then) for each in found] == [
        ("new", "small", 0),
        ("other", "small", 0),
    ]
    assert {each.starts[0].node for each in found} == {"b", "c"}


def displacing(fleet: MemoryFleet) -> tuple[Difference, ...]:
    """What would follow from a large model of higher priority, whose file no node has fetched."""
    applied = wish(NEW, VariantSpec(name="other", source="https://models.example/other.gguf"), priority=5)
    snapshot, supposition = observe(fleet.ports, fleet.resolutions), Supposition(applied=(applied,))
    questions = what_if(snapshot, fleet.now, supposition).questions
    found = {question: Resolved(artifact=artifact("other", mebibytes=400, bits=16)) for question in questions}
    return what_if(answered(snapshot, found), fleet.now, supposition).differences


async def test_whom_a_model_of_higher_priority_would_displace_is_told_and_where_to() -> None:
    low, new = displacing(await settled(a=600, b=300))

    assert (new.model, new.starts, new.pending_then) == (NEW, (Place("a", "other", 1),), 0)
    assert (low.model, low.stops, low.starts) == (KEY, (Place("a", "large", 1),), (Place("b", "small", 1),))


async def test_who_would_be_displaced_and_find_no_other_place_is_told_as_well() -> None:
    low, new = displacing(await settled(a=600))

    assert (new.starts, new.pending_then) == ((Place("a", "other", 1),), 0)
    assert (low.stops, low.starts, low.pending_then) == ((Place("a", "large", 1),), (), 1)
    assert "gives way to" in low.why


async def test_what_gives_way_already_is_no_consequence_of_anything_else() -> None:
    fleet = await settled(a=600, b=120)
    fleet.apply("high", LADDER[0], priority=5)
    for _ in range(2):
        await fleet.turn()

    assert asked(fleet, drained=("b",)) == ()
