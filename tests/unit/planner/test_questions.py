"""What an agent has not been asked yet is asked before anything is dealt elsewhere because of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from roadstead.domain.model import VariantSpec
from roadstead.domain.snapshot import Weight, WeightPhase
from roadstead.services.resolutions import ResolutionBook
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact

SMALL = "file:///models/small.gguf"
LARGE = "file:///models/large.gguf"
FILES = {SMALL: artifact("small", mebibytes=100, bits=4.5), LARGE: artifact("large", mebibytes=200, bits=16)}


def node(mebibytes: int = 1500) -> MemoryNode:
    return MemoryNode(budget=mebibytes * MIB, files=dict(FILES))


async def test_a_node_that_joined_later_is_asked_before_another_gets_two_replicas() -> None:
    fleet = MemoryFleet(nodes={"node-0": node()})
    model = fleet.apply("assistant", VariantSpec(name="small", source=SMALL))
    await fleet.settle()
    fleet.nodes["node-1"] = node()

    fleet.apply("assistant", VariantSpec(name="small", source=SMALL), replicas=2)
    await fleet.settle()

    assert fleet.running(model) == {"node-0": ("small", 1), "node-1": ("small", 1)}


async def test_an_operator_that_has_just_started_deals_as_the_one_before_would_have() -> None:
    fleet = MemoryFleet(nodes={"node-0": node(), "node-1": node(1400), "node-2": node(1300)})
    model = fleet.apply("assistant", VariantSpec(name="small", source=SMALL), replicas=2)
    await fleet.settle()
    fleet.resolutions = ResolutionBook()  # a new process remembers nothing
    fleet.nodes["node-1"].ready = False

    await fleet.settle()

    assert fleet.running(model) == {"node-0": ("small", 1), "node-2": ("small", 1)}


async def test_an_answer_about_a_source_that_only_a_release_names_is_kept() -> None:
    """Without the ledger a changed spec has no release of its own: the one before is served on, on other nodes too."""
    fleet = MemoryFleet(nodes={"node-0": node(), "node-1": node(1400)})
    model = fleet.apply("assistant", VariantSpec(name="small", source=SMALL))
    await fleet.settle()
    fleet.ledger_answers = False
    fleet.apply("assistant", VariantSpec(name="large", source=LARGE))
    fleet.nodes["node-0"].ready = False

    await fleet.settle()

    assert fleet.running(model) == {"node-1": ("small", 1)}


async def test_a_node_whose_agent_refuses_is_not_waited_for() -> None:
    fleet = MemoryFleet(nodes={"node-0": node()})
    model = fleet.apply("assistant", VariantSpec(name="small", source=SMALL))
    await fleet.settle()
    fleet.nodes["node-1"] = MemoryNode(budget=3000 * MIB)  # it has no such file

    fleet.apply("assistant", VariantSpec(name="small", source=SMALL), replicas=2)
    await fleet.settle()

    assert fleet.running(model) == {"node-0": ("small", 2)}


async def test_a_better_variant_that_was_not_asked_for_yet_is_not_passed_over() -> None:
    ladder = VariantSpec(name="small", source=SMALL), VariantSpec(name="large", source=LARGE)
    fleet = MemoryFleet(nodes={"node-0": node(400), "node-1": node(400)})
    model = fleet.apply("assistant", *ladder)
    await fleet.settle()
    assert fleet.running(model) == {"node-0": ("large", 1)}
    small = FILES[SMALL]
    there = Weight(digest=small.digest, phase=WeightPhase.READY, bytes_total=small.bytes, bytes_done=small.bytes)
    fleet.nodes["node-2"] = node()
    fleet.nodes["node-2"].weights[small.digest] = there

    fleet.nodes["node-0"].ready = False
    await fleet.settle()

    assert fleet.running(model) == {"node-2": ("large", 1)}


async def test_however_many_nodes_lack_the_file_all_are_asked_in_one_turn() -> None:
    fleet = MemoryFleet(nodes={"node-0": node(300)})
    model = fleet.apply("assistant", VariantSpec(name="small", source=SMALL))
    await fleet.settle()
    fleet.nodes |= {f"node-{number}": MemoryNode(budget=1500 * MIB) for number in range(1, 20)}
    fleet.nodes["node-20"] = node(1400)

    fleet.apply("assistant", VariantSpec(name="small", source=SMALL), replicas=2)
    for _ in range(4):  # asked; dealt and fetched; put; up
        await fleet.turn()
        fleet.step()
    await fleet.turn()

    assert fleet.running(model).keys() == {"node-0", "node-20"}


async def test_a_new_process_has_nothing_to_tell_of_a_source_that_is_still_missing() -> None:
    fleet = MemoryFleet(nodes={"node-0": node()})
    fleet.apply("assistant", VariantSpec(name="small", source=SMALL))
    fleet.apply("helper", VariantSpec(name="lost", source="file:///models/lost.gguf"))
    await fleet.settle()
    before = len(fleet.writes)

    fleet.restart_operator()
    await fleet.settle()

    assert list(fleet.writes)[before:] == []


async def test_a_new_process_tells_nothing_of_a_source_while_its_question_is_in_flight() -> None:
    fleet = MemoryFleet(nodes={"node-0": node()})
    fleet.apply("helper", VariantSpec(name="lost", source="file:///models/lost.gguf"))
    await fleet.settle()
    before = len(fleet.writes)

    fleet.restart_operator()
    fleet.agents_may_answer = asyncio.Event()
    await fleet.turn()
    await fleet.turn()
    assert list(fleet.writes)[before:] == []

    fleet.agents_may_answer.set()
    await fleet.settle()
    assert list(fleet.writes)[before:] == []


async def test_a_refusal_that_is_repeated_is_no_news_and_asked_for_every_thirty_seconds() -> None:
    fleet = MemoryFleet(nodes={"node-0": node()})
    fleet.apply("helper", VariantSpec(name="lost", source="file:///models/lost.gguf"))
    await fleet.settle()
    fleet.now += timedelta(seconds=31)

    asked = await fleet.turn()

    assert (asked.outcome.done, asked.again_after_seconds) == (1, 30)


async def test_a_source_that_nobody_can_look_at_wakes_nobody_every_second() -> None:
    fleet = MemoryFleet(nodes={})
    fleet.apply("assistant", VariantSpec(name="small", source=SMALL))
    await fleet.settle()

    assert (await fleet.turn()).again_after_seconds == 30
