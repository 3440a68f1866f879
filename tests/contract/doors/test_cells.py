"""Cells: written to only as they were planned on, and nothing that is not named is ever touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from roadstead.adapters.cells.doors import CellDoors
from roadstead.domain.model import ModelKey
from roadstead.domain.snapshot import CellFacts, Known, ObservedSlot, Raylet, Stale, Unknown
from roadstead.ports import DoorError, FencedError
from roadstead_worker.contract import ConfigAccepted, ConfigRequest, ReplicaState
from tests.contract.doors.conftest import Operator
from tests.contract.doors.scripted_door import ScriptedDoor
from tests.contract.doors.states import a_cell, a_slot, an_application
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract

FOREIGN = {"name": "foreign", "import_path": "somebody.elses:app", "args": {"x": [1, 2.5, None]}, "unknown_key": True}


@pytest.fixture
async def cells(operator: Operator, door: ScriptedDoor) -> AsyncIterator[CellDoors]:
    operator.lists(cells={"cell-1": door.url})
    async with CellDoors(directory=operator.directory, **operator.given()) as cells:
        yield cells


def known(cells: CellDoors) -> CellFacts | None:
    (cell,) = cells.cells()
    return cell.facts.value if isinstance(cell.facts, Known) else None


async def base_is(cells: CellDoors, base: str) -> None:
    await until(lambda: (facts := known(cells)) is not None and facts.base == base, f"the cell holds {base}")


def put_list(door: ScriptedDoor, number: int = -1) -> list[dict[str, object]]:
    return list(ConfigRequest.model_validate_json(door.requests[number].body).applications)


async def test_slots_are_read_from_what_was_put(cells: CellDoors, door: ScriptedDoor) -> None:
    slot = a_slot(replicas=2, attempt=1, release=4)
    door.publish(a_cell("one", an_application(slot), an_application(a_slot("b"), config=FOREIGN)))
    await base_is(cells, "base-1")
    (cell,) = cells.cells()
    assert (cell.name, cell.nodes) == ("cell-1", frozenset({"node-a", "node-b"}))
    assert known(cells) == CellFacts(
        epoch=3,
        base="base-1",
        nodes=frozenset({"node-a"}),
        raylets=frozenset({Raylet("node-a", "0123456789ab")}),
        slots=(
            ObservedSlot(
                name=slot.name,
                model=slot.model,
                variant="q4",
                release=4,
                content=slot.content.hash,
                node="node-a",
                threads=4,
                replicas=2,
                memory_bytes=1 << 30,
                attempt=1,
                status="RUNNING",
                message="",
                failed_at=None,
                addresses=("127.0.0.10:30000",),
                engine_image=slot.content.engine_image,
            ),
        ),
    )


async def test_replicas_that_a_new_head_has_yet_to_reach_are_counted(cells: CellDoors, door: ScriptedDoor) -> None:
    found = an_application(a_slot(), status="DEPLOYING", ready=0)
    recovering = ReplicaState(id="r0", state="RECOVERING")
    starting = ReplicaState(id="r1", state="STARTING")
    door.publish(a_cell("one", found.model_copy(update={"replicas": (recovering, starting)})))
    await base_is(cells, "base-1")
    facts = known(cells)
    assert facts is not None
    assert [(slot.ready, slot.recovering) for slot in facts.slots] == [(0, 1)]


async def test_a_slot_that_ray_tears_down_is_remembered(cells: CellDoors, door: ScriptedDoor) -> None:
    slot = a_slot()
    door.publish(a_cell("one", an_application(slot)))
    await base_is(cells, "base-1")
    door.publish(a_cell("two", an_application(slot, config={}, status="DELETING"), base="base-2"))
    await base_is(cells, "base-2")
    facts = known(cells)
    assert facts is not None
    (leaving,) = facts.slots
    assert (leaving.configured, leaving.content, leaving.memory_bytes) == (False, slot.content.hash, 1 << 30)
    assert leaving.status == "DELETING"


async def test_a_failure_dates_from_when_this_operator_saw_it_until_another_attempt_is_made(
    cells: CellDoors, door: ScriptedDoor, operator: Operator
) -> None:
    def failed_at() -> datetime | None:
        facts = known(cells)
        assert facts is not None
        return facts.slots[0].failed_at

    first = a_slot(attempt=0)
    door.publish(a_cell("one", an_application(first, status="DEPLOY_FAILED", ready=0), base="base-1"))
    await base_is(cells, "base-1")
    seen = failed_at()
    assert seen == operator.now
    operator.passes(5)
    door.publish(a_cell("two", an_application(first, status="DEPLOY_FAILED", ready=0), base="base-2"))
    await base_is(cells, "base-2")
    assert failed_at() == seen, "whatever else was put into the cell meanwhile"
    again = an_application(a_slot(attempt=1), status="DEPLOY_FAILED", ready=0)
    door.publish(a_cell("three", again, base="base-3"))
    await base_is(cells, "base-3")
    assert failed_at() == operator.now


async def test_after_a_restart_a_leaving_slot_is_known_by_its_name(cells: CellDoors, door: ScriptedDoor) -> None:
    door.publish(a_cell("one", an_application(a_slot(), config={}, status="DELETING")))
    await base_is(cells, "base-1")
    facts = known(cells)
    assert facts is not None
    (leaving,) = facts.slots
    assert (leaving.model, leaving.node, leaving.configured) == (ModelKey("team-a", "assistant"), "node-a", False)


async def test_a_cell_whose_ray_does_not_answer_is_not_known(
    cells: CellDoors, door: ScriptedDoor, operator: Operator
) -> None:
    (cell,) = cells.cells()
    assert isinstance(cell.facts, Unknown)
    door.publish(a_cell("one"))
    await base_is(cells, "base-1")
    seen = operator.now
    operator.passes(5)
    door.publish(a_cell("two", reachable=False))
    await until(lambda: isinstance(cells.cells()[0].facts, Stale), "the cell is stale")
    facts = cells.cells()[0].facts
    assert isinstance(facts, Stale)
    assert facts.since == seen
    with pytest.raises(DoorError, match="CellUnavailable"):
        await cells.configure("cell-1", base="base-1", put=(a_slot(),), remove=())
    assert door.requests == []
    door.publish(a_cell("three"))
    await base_is(cells, "base-1")


async def test_only_what_is_named_changes(cells: CellDoors, door: ScriptedDoor) -> None:
    stays, grows, goes, new = a_slot("a"), a_slot("b"), a_slot("c"), a_slot("d")
    leaving = an_application(a_slot("e"), config={}, status="DELETING")
    foreign = an_application(a_slot("f"), config=FOREIGN)
    door.publish(a_cell("one", *(an_application(slot) for slot in (stays, grows, goes)), foreign, leaving))
    await base_is(cells, "base-1")
    door.answers(ConfigAccepted(base="base-2"))
    await cells.configure("cell-1", base="base-1", put=(a_slot("b", replicas=3), new), remove=(goes.name,))
    assert door.requests[0].epoch == "7"
    assert [application["name"] for application in put_list(door)] == [stays.name, grows.name, "foreign", new.name]
    assert put_list(door)[0] == an_application(stays).config
    assert put_list(door)[2] == FOREIGN


async def test_a_base_is_written_over_once(cells: CellDoors, door: ScriptedDoor) -> None:
    door.publish(a_cell("one"))
    await base_is(cells, "base-1")
    door.answers(ConfigAccepted(base="base-2"))
    await cells.configure("cell-1", base="base-1", put=(a_slot(),), remove=())
    with pytest.raises(DoorError, match="BaseChanged"):
        await cells.configure("cell-1", base="base-1", put=(a_slot("b"),), remove=())
    assert len(door.requests) == 1
    door.publish(a_cell("two", an_application(a_slot()), base="base-2"))
    await base_is(cells, "base-2")
    door.answers(ConfigAccepted(base="base-1"))
    await cells.configure("cell-1", base="base-2", put=(), remove=(a_slot().name,))
    door.publish(a_cell("three", base="base-1"))
    await base_is(cells, "base-1")
    door.answers(ConfigAccepted(base="base-4"))
    await until(lambda: door.after[-1] == "three", "the state after the write was told")
    await cells.configure("cell-1", base="base-1", put=(a_slot("b"),), remove=())


async def test_a_write_that_changes_nothing_spends_nothing(cells: CellDoors, door: ScriptedDoor) -> None:
    door.publish(a_cell("one", an_application(a_slot())))
    await base_is(cells, "base-1")
    for _ in range(2):
        door.answers(ConfigAccepted(base="base-1"))
        await cells.configure("cell-1", base="base-1", put=(a_slot(),), remove=())


async def test_writes_at_once_take_turns(cells: CellDoors, door: ScriptedDoor) -> None:
    door.publish(a_cell("one"))
    await base_is(cells, "base-1")
    door.hold = asyncio.Event()
    door.answers(ConfigAccepted(base="base-2"))
    writes = [
        asyncio.create_task(cells.configure("cell-1", base="base-1", put=(a_slot(letter),), remove=()))
        for letter in "ab"
    ]
    await until(lambda: door.requests, "the first write")
    door.hold.set()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], DoorError)
    assert results[1].code == "BaseChanged"
    assert len(door.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(412, "BaseChanged", DoorError), (409, "StaleEpoch", FencedError), (503, "CellUnreachable", DoorError)],
)
async def test_refusals_keep_their_code(
    status: int, code: str, kind: type[DoorError], cells: CellDoors, door: ScriptedDoor
) -> None:
    door.publish(a_cell("one"))
    await base_is(cells, "base-1")
    door.refuses(status, code, epoch=9 if code == "StaleEpoch" else None)
    with pytest.raises(kind, match=code) as refused:
        await cells.configure("cell-1", base="base-1", put=(a_slot(),), remove=())
    assert type(refused.value) is kind
    assert cells.highest_epoch() == (9 if code == "StaleEpoch" else 3)
    door.answers(ConfigAccepted(base="base-2"))
    await cells.configure("cell-1", base="base-1", put=(a_slot(),), remove=())


async def test_a_base_from_another_time_is_refused_before_it_is_sent(cells: CellDoors, door: ScriptedDoor) -> None:
    door.publish(a_cell("one", base="base-5"))
    await base_is(cells, "base-5")
    with pytest.raises(DoorError, match="BaseChanged"):
        await cells.configure("cell-1", base="base-4", put=(a_slot(),), remove=())
    with pytest.raises(DoorError, match="CellUnavailable"):
        await cells.configure("no-such-cell", base="base-5", put=(a_slot(),), remove=())
    assert door.requests == []
