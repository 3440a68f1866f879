"""A replica goes where its weights are: what is being fetched is not fetched somewhere else because room has moved."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from roadstead.domain.model import ModelKey, VariantSpec
from roadstead.domain.snapshot import Weight, WeightPhase
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact

GOOD = artifact("good", mebibytes=300, bits=16)
PLAIN = artifact("plain", mebibytes=100, bits=4.5)
VARIANTS = (VariantSpec(name="good", source="file:///good"), VariantSpec(name="plain", source="file:///plain"))


def fleet_of(nodes: int, models: int, *, budget: int = 4000) -> tuple[MemoryFleet, list[ModelKey]]:
    """Nodes that are alike, and models with weights of their own, in the order in which they are planned."""
    files = {f"file:///{number:03}": artifact(f"{number:03}", mebibytes=200) for number in range(models)}
    fleet = MemoryFleet(
        nodes={f"node-{number}": MemoryNode(budget=budget * MIB, files=dict(files)) for number in range(nodes)}
    )
    keys = [
        fleet.apply(f"model-{number:03}", VariantSpec(name="q8", source=source)) for number, source in enumerate(files)
    ]
    return fleet, keys


def holding(node: MemoryNode, *artifacts: str) -> MemoryNode:
    node.weights |= {
        digest: Weight(digest=digest, phase=WeightPhase.READY, bytes_total=1, bytes_done=1, code="")
        for digest in artifacts
    }
    return node


def fetches(fleet: MemoryFleet) -> Counter[str]:
    """How often each artifact was fetched."""
    return Counter(write.split()[2] for write in fleet.writes if write.startswith("fetch "))


@pytest.mark.parametrize("seed", range(3))
async def test_of_many_models_that_come_together_each_is_fetched_once_whoever_is_first(seed: int) -> None:
    random = Random(seed)
    fleet, keys = fleet_of(5, 40)
    digests = [artifact(f"{number:03}", mebibytes=200).digest for number in range(len(keys))]
    random.shuffle(digests)
    while digests:
        for node in fleet.nodes.values():
            node.stalled = set(digests)
        await fleet.settle()
        del digests[:4]
    for node in fleet.nodes.values():
        node.stalled = set()
    await fleet.settle()
    assert all(fleet.running(key) for key in keys)
    assert set(fetches(fleet).values()) == {1}


async def test_weights_that_are_there_draw_a_new_model_past_a_node_with_more_room() -> None:
    fleet, (key,) = fleet_of(2, 1)
    holding(fleet.nodes["node-1"], artifact("000", mebibytes=200).digest)
    fleet.nodes["node-1"].foreign = 1000 * MIB
    await fleet.settle()
    assert set(fleet.running(key)) == {"node-1"}
    assert not fetches(fleet)


async def test_weights_of_a_worse_variant_do_not_draw_from_a_node_that_can_have_a_better_one() -> None:
    files = {"file:///good": GOOD, "file:///plain": PLAIN}
    fleet = MemoryFleet(
        nodes={
            "large": MemoryNode(budget=1000 * MIB, files=dict(files)),
            "small": holding(MemoryNode(budget=300 * MIB, files=dict(files)), PLAIN.digest),
        }
    )
    key = fleet.apply("assistant", *VARIANTS)
    await fleet.settle()
    assert fleet.running(key) == {"large": ("good", 1)}


async def test_replicas_of_one_model_still_spread_before_they_go_where_the_weights_are() -> None:
    fleet, _ = fleet_of(2, 1)
    holding(fleet.nodes["node-1"], artifact("000", mebibytes=200).digest)
    key = fleet.apply("model-000", VariantSpec(name="q8", source="file:///000"), replicas=2)
    await fleet.settle()
    assert set(fleet.running(key)) == {"node-0", "node-1"}
