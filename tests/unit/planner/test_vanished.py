"""Objects that a list no longer holds: a Node is replaced, a LocalModel cannot vanish and is not believed gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roadstead.domain.model import FieldProblem, ModelKey, VariantSpec
from roadstead.planner.orphans import sweepable
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact
from tests.fixtures.memory_pods import MemoryPods, image, pool

SMALL = VariantSpec(name="small", source="file:///models/small.gguf")
OWN = VariantSpec(name="own", source="file:///models/own.gguf")
FILES = {SMALL.source: artifact("small", mebibytes=80), OWN.source: artifact("own", mebibytes=90)}


async def fleet_of(models: int, *, pods: bool = False) -> tuple[MemoryFleet, list[ModelKey]]:
    fleet = MemoryFleet(nodes={f"node-{n}": MemoryNode(budget=8000 * MIB, files=dict(FILES)) for n in range(3)})
    if pods:
        fleet.pools, fleet.pods = [pool(image("a"))], MemoryPods()
    keys = [fleet.apply(f"model-{n:02}", SMALL) for n in range(models)]
    await fleet.settle(limit=200)
    return fleet, keys


async def turns(fleet: MemoryFleet, count: int = 20) -> None:
    for _ in range(count):
        await fleet.turn()
        fleet.step()


@pytest.mark.parametrize(("models", "at_once"), [(0, 0), (1, 1), (19, 1), (20, 2), (2000, 101)])
def test_few_orphans_are_believed(models: int, at_once: int) -> None:
    assert sweepable(models) == at_once


async def test_what_a_model_leaves_whose_finalizer_was_taken_off_is_removed() -> None:
    fleet, (kept, freed) = await fleet_of(2)
    del fleet.models[freed]

    await fleet.settle()

    assert {app.slot.model for app in fleet.applications.values()} == {kept}
    assert set(fleet.routes) == {kept}


@pytest.mark.parametrize("missing", [2, 5])
@pytest.mark.parametrize("with_routes", [True, False], ids=["routes are there", "routes are missing too"])
@pytest.mark.parametrize("restart", [True, False], ids=["a new operator", "the same operator"])
async def test_models_that_vanish_many_at_once_go_on_serving_until_they_are_back(
    *, missing: int, with_routes: bool, restart: bool
) -> None:
    fleet, keys = await fleet_of(5, pods=True)
    before, models, routes = fleet.normalised(), dict(fleet.models), dict(fleet.routes)
    for key in keys[:missing]:
        del fleet.models[key]
        if not with_routes:
            del fleet.routes[key]
    if restart:
        fleet.restart_operator()

    await turns(fleet)

    assert {app.slot.model for app in fleet.applications.values() if app.ready} == set(keys)
    assert not [write for write in fleet.writes if write.startswith(("withdraw", "forget", "remove"))]
    assert not with_routes or all(fleet.answering(key) == 1 for key in keys)
    status, reason, words = fleet.pool_condition("cpu", "OrphansHeld")
    assert (status, reason) == ("True", "Orphaned")
    assert words.startswith(f"{missing} models serve and have no LocalModel: team/model-00, team/model-01")

    for key in keys[:missing]:
        fleet.models[key] = replace(models[key], uid=f"{models[key].uid}-again")
        del fleet.statuses[key]
    await fleet.settle(limit=200)

    assert set(routes) == set(fleet.routes)
    assert {**fleet.normalised(), "leases": 0} == {**before, "leases": 0}


async def test_a_list_that_is_wrongly_empty_removes_nothing() -> None:
    fleet, keys = await fleet_of(1)
    models, fleet.models = fleet.models, {}
    writes = len(fleet.writes)

    await turns(fleet)

    assert [write for write in fleet.writes[writes:] if write != "ledger"] == []
    assert fleet.answering(keys[0]) == 1
    fleet.models = models
    await fleet.settle()
    assert fleet.answering(keys[0]) == 1


async def test_an_orphan_that_is_held_ends_by_being_applied_and_deleted() -> None:
    fleet, keys = await fleet_of(2)
    fleet.models.clear()
    await turns(fleet)
    for number in range(2):
        fleet.apply(f"model-{number:02}", SMALL)
    await fleet.settle()

    fleet.delete(keys[0])
    await fleet.settle()

    assert {app.slot.model for app in fleet.applications.values()} == {keys[1]}


async def test_nodes_that_vanish_from_the_list_cost_no_service() -> None:
    """Whatever part of them: slots are dealt elsewhere first, and go only once others answer in their place."""
    for vanished in ({"node-0"}, {"node-0", "node-1"}, {"node-0", "node-1", "node-2"}):
        fleet, keys = await fleet_of(6)
        for name in vanished:
            fleet.nodes[name].unlisted = True
        for _ in range(20):
            await fleet.turn()
            fleet.step()
            assert all(fleet.answering(key) >= 1 for key in keys)
        for node in fleet.nodes.values():
            node.unlisted = False

        await fleet.settle()

        assert all(fleet.configured_replicas(key) == fleet.answering(key) == 1 for key in keys)


async def test_weights_are_removed_from_a_node_whose_agent_was_away_when_its_model_was_deleted() -> None:
    fleet, _ = await fleet_of(1)
    key = fleet.apply("own", OWN, replicas=3)
    await fleet.settle()
    fleet.nodes["node-1"].agent_answers = False
    fleet.delete(key)
    await fleet.settle()
    assert FILES[OWN.source].digest in fleet.nodes["node-1"].weights

    fleet.nodes["node-1"].agent_answers = True
    await fleet.settle()

    assert not any(FILES[OWN.source].digest in node.weights for node in fleet.nodes.values())


async def test_weights_stay_while_a_model_has_no_release_that_might_name_them() -> None:
    """Of an API server that was restored its ControllerRevisions are missing, and its spec cannot be read by now."""
    fleet, keys = await fleet_of(2)
    for key in keys:
        problem = FieldProblem(path="spec.task", message="is not known")
        fleet.models[key] = replace(fleet.models[key], spec=None, problems=(problem,))
    fleet.revisions.clear()
    fleet.restart_operator()

    await turns(fleet)

    assert not [write for write in fleet.writes if write.startswith("forget")]
    assert [fleet.answering(key) for key in keys] == [1, 1]
