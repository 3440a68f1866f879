"""A door outlives its address: while its Pod is replaced, what it said last stands and ages, and nobody is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from roadstead.adapters.agents.doors import AgentDoors
from roadstead.adapters.cells.doors import CellDoors
from roadstead.adapters.directory import AgentDoor, CellDoor, Listing
from roadstead.domain.snapshot import Known, Stale, Unknown
from roadstead.ports import DoorError
from tests.contract.doors.conftest import Operator
from tests.contract.doors.scripted_door import ScriptedDoor
from tests.contract.doors.states import DIGEST, a_node
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract


class ListedDoors:
    """A directory of one agent and one cell, at the addresses that the test says."""

    def __init__(self) -> None:
        self.agent = ""
        self.head = ""

    def listing(self) -> Listing:
        return Listing(
            agents={"node-a": AgentDoor(node="node-a", url=self.agent)},
            cells={"cell-1": CellDoor(name="cell-1", url=self.head, host="", nodes=frozenset())},
            gateways={},
        )


@pytest.fixture
def directory(door: ScriptedDoor) -> ListedDoors:
    listed = ListedDoors()
    listed.agent = door.url
    return listed


@pytest.fixture
async def agents(operator: Operator, directory: ListedDoors) -> AsyncIterator[AgentDoors]:
    async with AgentDoors(directory=directory, **operator.given()) as agents:
        yield agents


async def is_known(agents: AgentDoors) -> None:
    await until(lambda: isinstance(agents.facts()["node-a"], Known), "the agent is known")


async def test_without_an_address_an_agent_is_stale_and_the_loop_is_told(
    agents: AgentDoors, directory: ListedDoors, door: ScriptedDoor, operator: Operator
) -> None:
    door.publish(a_node())
    await is_known(agents)
    operator.pokes.clear()

    directory.agent = ""
    operator.passes(61)

    assert isinstance(agents.facts()["node-a"], Stale)
    await until(lambda: operator.pokes == ["agent node-a"], "the loop is told")
    with pytest.raises(DoorError, match="the agent of node node-a has no address at the moment"):
        await agents.forget("node-a", digest=DIGEST)


async def test_at_its_new_address_an_agent_is_known_at_once_although_it_says_the_same(
    agents: AgentDoors, directory: ListedDoors, door: ScriptedDoor, operator: Operator
) -> None:
    door.publish(a_node("one"))
    await is_known(agents)
    async with ScriptedDoor() as replaced:
        replaced.publish(a_node("one"))
        operator.passes(29)
        directory.agent = replaced.url
        await until(lambda: replaced.after[-1:] == ["one"], "it has answered, and the next change is waited for")
        operator.passes(2)
        assert isinstance(agents.facts()["node-a"], Known)
        assert replaced.after[0] == ""


async def test_a_cell_that_never_had_an_address_is_unknown_and_is_not_written_to(
    operator: Operator, directory: ListedDoors
) -> None:
    async with CellDoors(directory=directory, **operator.given()) as cells:
        (cell,) = cells.cells()
        assert isinstance(cell.facts, Unknown)
        with pytest.raises(DoorError, match="the head agent of cell cell-1 has no address at the moment"):
            await cells.configure("cell-1", base="b", put=(), remove=())
