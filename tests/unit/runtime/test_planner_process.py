"""The planner's process: it is sent what changed, and answers with what is new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import active_children

import pytest

from roadstead.domain.explanation import Fit, NoSuchModel
from roadstead.domain.model import ModelKey, ModelSpec, VariantSpec
from roadstead.domain.snapshot import FleetSnapshot, ResolutionKey, Resolved, answered
from roadstead.domain.supposition import NoSuchNode, Supposition, Wish
from roadstead.planner.explain import explain, explain_fit
from roadstead.planner.fleet import plan
from roadstead.planner.what_if import what_if
from roadstead.runtime.planner_process import PlannerProcess
from roadstead.services.observe import observe
from tests.fixtures.memory_fleet import MIB, START, MemoryFleet, MemoryNode, artifact

FILE = "file:///models/small.gguf"


@pytest.fixture
async def process() -> AsyncIterator[PlannerProcess]:
    async with PlannerProcess() as made:
        yield made


@pytest.fixture
async def settled() -> FleetSnapshot:
    """Two models at rest."""
    small = artifact("small", mebibytes=100)
    fleet = MemoryFleet(nodes={"n0": MemoryNode(budget=900 * MIB, files={FILE: small})})
    for name in ("one", "two"):
        fleet.apply(name, VariantSpec(name="q8", source=FILE))
    await fleet.settle()
    return observe(fleet.ports, fleet.resolutions)


async def test_a_model_at_rest_keeps_its_report_and_a_changed_one_gets_a_new_one(
    process: PlannerProcess, settled: FleetSnapshot
) -> None:
    first = await process(settled, START)
    assert first == plan(settled, START)
    one, two = settled.models
    changed = replace(settled, models=(replace(one, generation=one.generation + 1), two))

    second = await process(changed, START)

    assert second == plan(changed, START)
    assert second.reports[1] is first.reports[1]
    assert second.reports[0] is not first.reports[0]


async def test_a_caller_who_gives_up_costs_the_next_one_nothing_but_time(
    process: PlannerProcess, settled: FleetSnapshot
) -> None:
    await process(settled, START)
    one, two = settled.models
    fewer = replace(settled, models=(two,))
    leaving = asyncio.create_task(process(fewer, START))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)

    assert await process(settled, START) == plan(settled, START)
    assert await process(replace(settled, models=(one,)), START) == plan(replace(settled, models=(one,)), START)


async def test_what_if_is_asked_of_the_same_process_and_leaves_it_as_it_was(
    process: PlannerProcess, settled: FleetSnapshot
) -> None:
    first = await process(settled, START)

    found = await process.what_if(settled, START, Supposition(drained=("n0",)), {})
    with pytest.raises(NoSuchNode, match="n1"):
        await process.what_if(settled, START, Supposition(drained=("n1",)), {})

    assert found == what_if(settled, START, Supposition(drained=("n0",)))
    assert [each.pending_then for each in found.differences] == [1, 1]
    second = await process(settled, START)
    assert all(told is before for told, before in zip(second.reports, first.reports, strict=True))


async def test_explanations_are_made_in_the_same_process_with_what_agents_said_since(
    process: PlannerProcess, settled: FleetSnapshot
) -> None:
    first = await process(settled, START)
    one = settled.models[0].key
    source = "https://models.example/other.gguf"
    spec = ModelSpec(served_name="new", variants=(VariantSpec(name="q8", source=source),))
    fit = Fit(wish=Wish(ModelKey("team", "new"), spec))
    key = ResolutionKey(node="n0", source=source, digest=None)
    answers = {key: Resolved(artifact=artifact("other", mebibytes=50))}

    with pytest.raises(NoSuchModel, match="team/nobody"):
        await process.explain(settled, START, ModelKey("team", "nobody"), {})

    assert await process.explain(settled, START, one, {}) == explain(settled, START, one)
    told = await process.fit(settled, START, fit, answers)
    assert told == explain_fit(answered(settled, answers), START, fit)
    assert told.options
    second = await process(settled, START)
    assert all(told is before for told, before in zip(second.reports, first.reports, strict=True))


async def test_a_planner_that_dies_is_replaced(process: PlannerProcess, settled: FleetSnapshot) -> None:
    await process(settled, START)
    (child,) = active_children()
    child.kill()
    child.join()
    with pytest.raises(BrokenProcessPool):
        await process(settled, START)

    assert await process(settled, START) == plan(settled, START)
