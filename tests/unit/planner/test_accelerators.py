"""Replicas on accelerators: beside each other on one card, over several of them, and on processors where these end."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from roadstead.domain.inventory import Device, Vendor
from roadstead.domain.model import ModelKey, VariantSpec
from roadstead.domain.slot import Slot
from tests.fixtures.memory_fleet import ENGINE, MIB, MemoryFleet, MemoryNode, artifact

GIB = 1024 * MIB
FILES = {
    "file:///large.gguf": artifact("large", mebibytes=16_000, bits=16),
    "file:///small.gguf": artifact("small", mebibytes=4_500, bits=4.5),
}
LARGE, SMALL = (VariantSpec(name=source[8:13], source=source) for source in FILES)


def card(name: str, gibibytes: int, product: str = "NVIDIA-L4", capability: tuple[int, int] = (8, 9)) -> Device:
    return Device(
        id=name,
        vendor=Vendor.NVIDIA,
        product=product,
        memory_bytes=gibibytes * GIB,
        compute_capability=capability,
    )


def node(*devices: Device, host: int = 64) -> MemoryNode:
    return MemoryNode(budget=host * GIB, files=dict(FILES), devices=devices)


def fleet_of(**nodes: MemoryNode) -> MemoryFleet:
    fleet = MemoryFleet(nodes={name.replace("_", "-"): each for name, each in nodes.items()}, check_rest=True)
    fleet.pools[0] = replace(fleet.pools[0], engines=(replace(ENGINE, backends=frozenset({"CPU", "CUDA"})),))
    return fleet


def slots(fleet: MemoryFleet, key: ModelKey) -> list[Slot]:
    return [app.slot for app in fleet.applications.values() if app.slot.model == key and app.configured]


async def test_a_card_that_has_room_is_used_before_a_processor() -> None:
    fleet = fleet_of(a_cpu=node(host=512), b_gpu=node(card("gpu-0", 24)))
    key = fleet.apply("assistant", LARGE, SMALL)
    await fleet.settle()

    (slot,) = slots(fleet, key)
    assert (slot.node, slot.content.variant) == ("b-gpu", "large")
    assert (slot.shape.devices, slot.groups) == (1, (("gpu-0",),))
    assert 15 * GIB < slot.device_bytes < 20 * GIB
    assert slot.memory_bytes < 2 * GIB
    assert "1 × large on b-gpu (1 × NVIDIA-L4, 1" in fleet.condition(key, "Placed")[2]


async def test_several_small_models_share_a_card_until_it_is_full() -> None:
    fleet = fleet_of(gpu=node(card("gpu-0", 24), host=6))
    keys = [fleet.apply(f"model-{index}", SMALL) for index in range(5)]
    await fleet.settle()

    placed = [slot for key in keys for slot in slots(fleet, key)]
    on_card = [slot for slot in placed if slot.shape.devices]
    assert 3 <= len(on_card) <= 4
    assert sum(slot.device_bytes for slot in on_card) <= 24 * GIB
    lacking = [key for key in keys if not slots(fleet, key)]
    assert any("the emptiest has" in fleet.condition(key, "Placed")[2] for key in lacking)


async def test_what_is_too_large_for_one_card_runs_on_two_that_are_alike() -> None:
    fleet = fleet_of(gpu=node(card("gpu-0", 16), card("gpu-1", 16), card("other", 12, "Tesla-T4", (7, 5)), host=16))
    key = fleet.apply("assistant", LARGE)
    await fleet.settle()

    (slot,) = slots(fleet, key)
    assert slot.groups == (("gpu-0", "gpu-1"),)
    assert slot.shape.devices == 2


async def test_a_further_replica_gets_cards_of_its_own_and_the_first_keeps_its() -> None:
    fleet = fleet_of(gpu=node(card("gpu-0", 24), card("gpu-1", 24)))
    key = fleet.apply("assistant", LARGE)
    await fleet.settle()
    fleet.apply("assistant", LARGE, replicas=2)
    await fleet.settle()

    (slot,) = slots(fleet, key)
    assert slot.replicas == 2
    assert sorted(slot.groups) == [("gpu-0",), ("gpu-1",)]
    assert all(device.free_bytes is not None and device.free_bytes > 0 for device in fleet.devices("gpu"))


async def test_cards_and_processors_serve_one_model_together() -> None:
    fleet = fleet_of(gpu=node(card("gpu-0", 24), host=8), cpu=node(host=64))
    key = fleet.apply("assistant", LARGE, SMALL, replicas=2)
    await fleet.settle()
    assert {slot.node: slot.shape.devices for slot in slots(fleet, key)} == {"gpu": 1, "cpu": 0}


async def test_an_engine_that_was_not_built_for_cards_leaves_them_alone() -> None:
    fleet = MemoryFleet(nodes={"gpu": node(card("gpu-0", 24))})
    key = fleet.apply("assistant", SMALL)
    await fleet.settle()
    assert [slot.shape.devices for slot in slots(fleet, key)] == [0]


async def test_nothing_moves_from_a_card_to_a_processor_for_a_better_variant() -> None:
    fleet = fleet_of(gpu=node(card("gpu-0", 8), host=4))
    key = fleet.apply("assistant", LARGE, SMALL)
    await fleet.settle()
    assert [slot.content.variant for slot in slots(fleet, key)] == ["small"]

    fleet.nodes["cpu"] = node(host=512)
    await fleet.settle()
    assert [(slot.node, slot.content.variant) for slot in slots(fleet, key)] == [("gpu", "small")]


async def test_a_higher_priority_takes_a_card_from_a_lower_one() -> None:
    fleet = fleet_of(gpu=node(card("gpu-0", 24), host=8))
    low = fleet.apply("low", LARGE)
    await fleet.settle()
    high = fleet.apply("high", LARGE, priority=1)
    await fleet.settle()
    assert [slot.groups for slot in slots(fleet, high)] == [(("gpu-0",),)]
    assert slots(fleet, low) == []


async def test_a_new_operator_leaves_every_card_as_it_is() -> None:
    fleet = fleet_of(gpu=node(card("gpu-0", 24), card("gpu-1", 24)), cpu=node())
    for index in range(3):
        fleet.apply(f"model-{index}", LARGE, SMALL, replicas=2)
    await fleet.settle()
    before, written = fleet.normalised(), len(fleet.writes)
    fleet.restart_operator()
    await fleet.settle()
    assert fleet.normalised() == before
    assert len(fleet.writes) == written


async def test_where_only_a_start_can_tell_whether_there_is_room_it_is_tried_as_a_last_resort() -> None:
    fleet = fleet_of(gpu=node(card("gpu-0", 5), host=4))
    key = fleet.apply("assistant", SMALL)
    await fleet.turn()
    while not slots(fleet, key):
        fleet.step()
        await fleet.turn()
    (slot,) = slots(fleet, key)
    assert slot.groups == (("gpu-0",),)
    assert 4.5 * GIB < slot.device_bytes <= 5 * GIB

    fleet = fleet_of(gpu=node(card("gpu-0", 5), host=4), large=node(card("gpu-0", 24), host=4))
    key = fleet.apply("assistant", SMALL)
    await fleet.settle()
    assert [slot.node for slot in slots(fleet, key)] == ["large"]


async def test_a_node_whose_cards_are_not_certain_says_so_when_it_is_refused() -> None:
    fleet = fleet_of(gpu=node(host=4))
    fleet.nodes["gpu"].ambiguities = ("labels tell of 2 cards, the driver of 3",)
    key = fleet.apply("assistant", SMALL)
    await fleet.settle()
    assert fleet.condition(key, "Placed")[1] == "AmbiguousInventory"
    assert "labels tell of 2 cards" in fleet.condition(key, "Placed")[2]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
async def test_neither_cards_nor_hosts_are_ever_promised_more_than_they_have(data: st.DataObject) -> None:
    def machine() -> MemoryNode:
        sizes = data.draw(st.lists(st.sampled_from([8, 16, 24]), max_size=3), label="cards")
        product = {8: "NVIDIA-T1000", 16: "Tesla-T4", 24: "NVIDIA-L4"}
        cards = [card(f"gpu-{at}", size, product[size], (7, 5)) for at, size in enumerate(sizes)]
        return node(*cards, host=data.draw(st.sampled_from([4, 8, 24, 64]), label="host"))

    fleet = fleet_of(**{f"node_{at}": machine() for at in range(data.draw(st.integers(1, 3), label="nodes"))})
    fleet.watch = lambda: _check_promises(fleet)
    for at in range(data.draw(st.integers(1, 5), label="models")):
        ladder = data.draw(st.sampled_from([(LARGE,), (SMALL,), (LARGE, SMALL)]), label="ladder")
        replicas, priority = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 2))
        fleet.apply(f"model-{at % 3}", *ladder, replicas=replicas, priority=priority)
        for _ in range(data.draw(st.integers(0, 4), label="turns")):
            await fleet.turn()
            fleet.step()
    await fleet.settle(limit=200)
    for report in fleet.statuses.values():
        for refused in (row.verdict for row in report.variants if not row.chosen):
            assert refused.message
            assert not refused.reason.startswith("Insufficient") or re.search(r"\d", refused.message)


def _check_promises(fleet: MemoryFleet) -> None:
    placed = [app.slot for app in fleet.applications.values() if app.configured]
    for name, machine in fleet.nodes.items():
        there = [slot for slot in placed if slot.node == name]
        assert sum(slot.memory_bytes * slot.replicas for slot in there) <= machine.budget
        for each in machine.devices:
            held = [slot.device_bytes for slot in there for group in slot.groups if each.id in group]
            assert sum(held) <= each.memory_bytes
        for slot in there:
            assert len(slot.groups) == (slot.replicas if slot.shape.devices else 0)
            assert all(len(set(group)) == slot.shape.devices for group in slot.groups)
