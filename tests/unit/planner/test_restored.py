"""etcd and the ledger restored from older backups: all of it converges, and what serves goes on serving."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product

import pytest

from roadstead.domain.model import ModelKey, VariantSpec
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact

SMALL = VariantSpec(name="small", source="file:///models/small.gguf")
FILES = {SMALL.source: artifact("small", mebibytes=80)}
ASSISTANT, OTHER, DELETED, LATER = (ModelKey("team", name) for name in ("assistant", "other", "deleted", "later"))


class Backup:
    """What etcd holds, as it was."""

    def __init__(self, fleet: MemoryFleet) -> None:
        self.objects = copy.deepcopy((fleet.models, fleet.routes, fleet.revisions, fleet.statuses))
        self.version = fleet.revision

    def restore(self, fleet: MemoryFleet) -> None:
        """Versions go back too, and nobody who leads has a Lease from before: a new operator begins."""
        fleet.models, fleet.routes, fleet.revisions, fleet.statuses = copy.deepcopy(self.objects)
        fleet.revision = self.version
        fleet.restart_operator()


def new_fleet() -> MemoryFleet:
    return MemoryFleet(nodes={f"node-{n}": MemoryNode(budget=3000 * MIB, files=dict(FILES)) for n in range(3)})


async def fleet_with_a_past() -> tuple[MemoryFleet, Backup]:
    """A backup; then another spec, a deletion and a creation."""
    fleet = new_fleet()
    for name in ("assistant", "other", "deleted"):
        fleet.apply(name, SMALL, replicas=2)
    await fleet.settle()
    backup = Backup(fleet)
    fleet.apply("assistant", SMALL, replicas=2, context_tokens=1024)
    fleet.apply("later", SMALL)
    fleet.delete(DELETED)
    await fleet.settle()
    return fleet, backup


def check_that_all_is_well(fleet: MemoryFleet) -> None:
    for key, model in fleet.models.items():
        assert fleet.answering(key) == fleet.configured_replicas(key) == model.checked_spec.replicas
        tokens = model.checked_spec.requirements.context_tokens
        served = {app.slot.content.context_tokens for app in fleet.applications.values() if app.slot.model == key}
        assert served == {tokens}, f"{key} serves another release than its spec asks for"
        release = fleet.releases[model.uid][-1]
        numbers = fleet.rows.numbers.get(key, {})
        assert numbers.get(release.number, release.digest) == release.digest, "one number, two releases"
    assert set(fleet.routes) == set(fleet.models)
    assert {app.slot.model for app in fleet.applications.values()} == set(fleet.models)
    assert set(fleet.rows.incarnations.values()) == set(fleet.models)
    assert set(fleet.rows.placements) == set(fleet.applications)


async def test_an_older_etcd_leads_back_to_its_specs_and_serves_on_the_way() -> None:
    fleet, backup = await fleet_with_a_past()
    serving = {key: fleet.answering(key) for key in (ASSISTANT, OTHER)}

    def goes_on() -> None:
        for key, replicas in serving.items():
            assert fleet.answering(key) >= replicas

    fleet.watch = goes_on
    backup.restore(fleet)
    await fleet.settle()

    assert set(fleet.models) == {ASSISTANT, OTHER, DELETED}, "what was deleted since is there again"
    check_that_all_is_well(fleet)
    assert fleet.release_number(ASSISTANT) == 1

    fleet.apply("assistant", SMALL, replicas=2, context_tokens=1024)
    await fleet.settle()

    assert fleet.release_number(ASSISTANT) == 2, "the same contents return to their number"
    check_that_all_is_well(fleet)


@pytest.mark.parametrize(("routes", "revisions"), [pair for pair in product([True, False], repeat=2) if any(pair)])
async def test_routes_and_revisions_that_are_missing_are_made_again_while_all_serves(
    *, routes: bool, revisions: bool
) -> None:
    fleet, _ = await fleet_with_a_past()
    slots = {name: app.slot for name, app in fleet.applications.items()}
    if routes:
        fleet.routes.clear()
    if revisions:
        fleet.revisions.clear()
    fleet.restart_operator()

    await fleet.settle()

    assert {name: app.slot for name, app in fleet.applications.items()} == slots, "nothing was started anew"
    check_that_all_is_well(fleet)


@pytest.mark.parametrize("told", [True, False], ids=["stale", "unknown"])
async def test_no_route_without_addresses_is_made_while_the_cell_that_serves_is_away(*, told: bool) -> None:
    """The gateways serve by the last route they had; an empty one in its place would end that."""
    fleet, _ = await fleet_with_a_past()
    fleet.restart_operator()
    fleet.silence("cell", told=told)
    fleet.routes.clear()

    for _ in range(10):
        await fleet.turn()
        fleet.step()
        assert not told or fleet.answering(ASSISTANT) == 2

    assert all(any(slot.addresses for slot in route.slots) for route in fleet.routes.values())
    fleet.silent.clear()
    await fleet.settle()
    check_that_all_is_well(fleet)


@pytest.mark.parametrize("collected", [True, False], ids=["after garbage collection", "before garbage collection"])
async def test_an_object_of_the_same_name_with_another_uid_takes_over_what_runs(*, collected: bool) -> None:
    fleet, _ = await fleet_with_a_past()
    slots = {name: app.slot for name, app in fleet.applications.items()}
    model = fleet.models[ASSISTANT]
    fleet.models[ASSISTANT] = replace(model, uid="uid-again", finalized=False, resource_version=fleet.next_version())
    if collected:
        fleet.collect_garbage()

    for _ in range(20):
        await fleet.turn()
        assert fleet.answering(ASSISTANT) == 2
        fleet.step()

    assert {name: app.slot for name, app in fleet.applications.items()} == slots
    check_that_all_is_well(fleet)
    assert fleet.rows.incarnations["uid-again"] == ASSISTANT


@pytest.mark.parametrize("lost", ["everything", "the last release"])
async def test_an_older_ledger_gives_no_number_twice(lost: str) -> None:
    fleet, _ = await fleet_with_a_past()
    kept = dict(fleet.revisions)
    if lost == "everything":
        fleet.rows.numbers.clear()
        fleet.rows.incarnations.clear()
        fleet.rows.placements.clear()
    else:
        del fleet.rows.numbers[ASSISTANT][2]
    fleet.restart_operator()
    await fleet.settle()
    assert fleet.revisions == kept, "what the API server holds needs no ledger"

    fleet.apply("assistant", SMALL, replicas=2, context_tokens=4096)
    await fleet.settle()

    assert fleet.release_number(ASSISTANT) == 3
    check_that_all_is_well(fleet)
    assert set(fleet.rows.placements) == set(fleet.applications), "open rows are made again"


async def test_a_revision_of_that_number_with_other_contents_is_not_overwritten_and_not_served() -> None:
    fleet, _ = await fleet_with_a_past()
    uid, two = fleet.revisions[ASSISTANT, 2]
    fleet.rows.numbers[ASSISTANT] = {1: fleet.rows.numbers[ASSISTANT][1]}
    fleet.revisions[ASSISTANT, 2] = (uid, replace(two, contents=fleet.revisions[OTHER, 1][1].contents))
    fleet.restart_operator()

    await fleet.settle()

    assert fleet.revisions[ASSISTANT, 2][1].contents == fleet.revisions[OTHER, 1][1].contents
    assert fleet.release_number(ASSISTANT) == 3
    check_that_all_is_well(fleet)
