"""Models that come together share the room there is, so that all of them are served if they can be."""

from __future__ import annotations

from collections import Counter

import pytest

from roadstead.domain.model import ModelKey, VariantSpec
from roadstead.domain.snapshot import Pool
from tests.fixtures.memory_fleet import ENGINE, MIB, MemoryFleet, MemoryNode, artifact

MODELS = ("first", "second", "third", "fourth")
LADDERS = {
    name: (
        VariantSpec(name="large", source=f"file:///{name}-large.gguf"),
        VariantSpec(name="small", source=f"file:///{name}-small.gguf"),
    )
    for name in MODELS
}
FILES = {
    f"file:///{name}-{size}.gguf": artifact(f"{name}-{size}", mebibytes=mebibytes, bits=bits)
    for name in MODELS
    for size, mebibytes, bits in (("large", 300, 16), ("small", 80, 4.5))
}
"""A replica of a large one needs 417 MiB, of a small one 197."""


def node(mebibytes: int, **more: object) -> MemoryNode:
    return MemoryNode(budget=mebibytes * MIB, files=dict(FILES), **more)  # type: ignore[arg-type]


def apply_all(fleet: MemoryFleet, names: tuple[str, ...] = MODELS, **spec: object) -> list[ModelKey]:
    return [fleet.apply(name, *LADDERS[name], **spec) for name in names]  # type: ignore[arg-type]


def served(fleet: MemoryFleet, keys: list[ModelKey]) -> Counter[str]:
    return Counter(variant for key in keys for variant, count in fleet.running(key).values() for _ in range(count))


@pytest.mark.parametrize("names", [MODELS, tuple(reversed(MODELS))])
async def test_where_not_everybody_s_best_fits_all_are_served_by_a_smaller_one(names: tuple[str, ...]) -> None:
    fleet = MemoryFleet(nodes={"node-a": node(450), "node-b": node(450)}, check_rest=True)
    keys = apply_all(fleet, names)

    await fleet.settle()

    assert served(fleet, keys) == {"small": 4}


async def test_room_that_is_left_goes_to_a_better_variant() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(450), "node-b": node(450), "node-c": node(450)}, check_rest=True)
    keys = apply_all(fleet)

    await fleet.settle()

    assert served(fleet, keys) == {"large": 2, "small": 2}


async def test_where_there_is_room_for_everybody_s_best_everybody_has_it() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(2000), "node-b": node(2000)}, check_rest=True)
    keys = apply_all(fleet)

    await fleet.settle()

    assert served(fleet, keys) == {"large": 4}


async def test_nothing_is_fetched_that_is_not_served() -> None:
    fleet = MemoryFleet(nodes={f"node-{letter}": node(650) for letter in "abc"}, check_rest=True)
    apply_all(fleet, replicas=2)

    await fleet.settle()

    placed = {(slot.node, slot.content.artifact.digest) for slot in (app.slot for app in fleet.applications.values())}
    fetched = {(name, digest) for name, each in fleet.nodes.items() for digest in each.weights}
    assert fetched == placed


async def test_replicas_of_a_model_are_offered_nodes_of_their_own() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(450), "node-b": node(450)})
    keys = apply_all(fleet, MODELS[:2], replicas=2)

    await fleet.settle()

    for key in keys:
        assert {name: count for name, (_, count) in fleet.running(key).items()} == {"node-a": 1, "node-b": 1}


async def test_a_model_is_offered_only_nodes_that_it_may_be_served_on() -> None:
    pools = [Pool(name=name, node_selector=(("pool", name),), engines=(ENGINE,)) for name in ("blue", "green")]
    nodes = {f"node-{name}": node(450, labels={"pool": name}) for name in ("blue", "green")}
    fleet = MemoryFleet(nodes=nodes, pools=pools)
    blue = apply_all(fleet, MODELS[:2], pools=("blue",))
    anywhere = apply_all(fleet, MODELS[2:])

    await fleet.settle()

    assert all(set(fleet.running(key)) == {"node-blue"} for key in blue)
    assert all(set(fleet.running(key)) == {"node-green"} for key in anywhere)


async def test_an_offer_of_a_node_that_lacks_the_file_is_not_the_last_word() -> None:
    nodes = {"node-a": node(450), "node-b": node(450)}
    for name in MODELS[:2]:
        for size in ("large", "small"):
            del nodes["node-a"].files[f"file:///{name}-{size}.gguf"]
    fleet = MemoryFleet(nodes=nodes)
    keys = apply_all(fleet)

    await fleet.settle()

    assert served(fleet, keys) == {"small": 4}
    assert all(set(fleet.running(key)) == {"node-b"} for key in keys[:2])


async def test_how_far_an_assignment_stays_below_its_bound_is_told_while_there_is_something_to_weigh_up() -> None:
    fleet = MemoryFleet(nodes={"node-a": node(450), "node-b": node(450)})
    apply_all(fleet)
    gaps = []
    for _ in range(12):
        gaps.append((await fleet.turn()).assignment_gap)
        fleet.step()
    told = [gap for gap in gaps if gap is not None]
    assert told
    assert all(0 <= gap < 0.01 for gap in told)
    assert gaps[-1] is None, "all are served"


async def test_where_room_is_short_a_replica_is_smaller_so_that_another_is_served_at_all() -> None:
    fleet = MemoryFleet(nodes={f"node-{at}": node(600) for at in range(5)})
    keys = apply_all(fleet, MODELS[:2], replicas=4)
    await fleet.settle()
    assert served(fleet, keys).total() == 8
