"""A turn has an end, however much there is to do and whoever hangs."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from roadstead.domain.plan import Action, ConfigureCell, FetchWeights, ForgetWeights, Resolve, SetFinalizer
from roadstead.domain.release import Artifact
from roadstead.domain.slot import Slot
from roadstead.domain.snapshot import Resolution, ResolutionKey, Unresolved
from roadstead.ports import DoorError, FencedError
from roadstead.services import act, side_by_side
from roadstead.services.act import Executor
from roadstead.services.observe import Ports
from roadstead.services.resolutions import ResolutionBook
from tests.contract.postgres.ledger_values import MORNING, a_content, a_model

MANY = 200
QUESTION = ResolutionKey(node="0", source="file:///a", digest=None)


class Agents:
    """Fetches at once, but for nodes that hang; says that nothing is behind a source, as soon as it may."""

    def __init__(self, *, hanging: int = 0) -> None:
        self.fetched: list[str] = []
        self.forgotten: list[str] = []
        self.may_answer = asyncio.Event()
        self._hanging = hanging

    async def fetch(self, node: str, *, artifact: Artifact, source: str) -> None:
        del artifact, source
        if int(node) < self._hanging:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        self.fetched.append(node)

    async def forget(self, node: str, *, digest: str) -> None:
        del digest
        self.forgotten.append(node)

    async def resolve(self, key: ResolutionKey) -> Resolution:
        del key
        await self.may_answer.wait()
        return Unresolved(code="SourceNotFound", message="nothing is there", at=MORNING)


class Cluster:
    """Counts what is written to models."""

    def __init__(self) -> None:
        self.finalizers = 0

    async def set_finalizer(self, model: object) -> None:
        del model
        self.finalizers += 1


class Cells:
    """Takes every configuration, and answers when it may, as it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.refusal: Exception | None = None
        self.broken: set[str] = set()
        """Cells at which a defect of ours shows."""

    async def configure(self, cell: str, *, base: str, put: tuple[Slot, ...], remove: tuple[str, ...]) -> None:
        del base, put, remove
        self.asked.append(cell)
        if cell in self.broken:
            raise KeyError(cell)
        await self.may_answer.wait()
        if self.refusal is not None:
            raise self.refusal


class Desk:
    """An executor that waits for nobody, and what it was told and told."""

    def __init__(self, *, hanging: int = 0, patience_seconds: float = 0.0) -> None:
        self.agents, self.cluster, self.cells = Agents(hanging=hanging), Cluster(), Cells()
        self.resolutions = ResolutionBook()
        self.counted: list[tuple[str, str]] = []
        self.pokes: list[str] = []
        self.poked = asyncio.Event()
        ports = SimpleNamespace(agents=self.agents, cluster=self.cluster, cells=self.cells)
        self.executor = Executor(
            ports=cast("Ports", ports),
            resolutions=self.resolutions,
            count=lambda action, result: self.counted.append((action, result)),
            poke=self.poke,
            patience_seconds=patience_seconds,
        )
        self.carry_out = self.executor.carry_out

    def poke(self, reason: str) -> None:
        self.pokes.append(reason)
        self.poked.set()

    async def let_cells_answer(self, refusal: Exception | None = None) -> None:
        self.cells.refusal = refusal
        self.cells.may_answer.set()
        await self.executor.landed()


def fetches() -> tuple[Action, ...]:
    artifact = a_content().artifact
    return tuple(FetchWeights(node=str(node), artifact=artifact, source="file:///a") for node in range(MANY))


def configured(*cells: str) -> tuple[Action, ...]:
    return tuple(ConfigureCell(cell=cell, base="as it was") for cell in cells)


async def test_all_is_done_where_there_is_time_for_it() -> None:
    desk = Desk(patience_seconds=10.0)
    outcome = await desk.carry_out(fetches())
    assert (outcome.done, outcome.left) == (MANY, 0)
    assert len(desk.agents.fetched) == MANY


async def test_what_there_is_no_time_for_is_left_and_the_next_kind_has_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(side_by_side, "_SECONDS", -1.0)
    desk = Desk(patience_seconds=10.0)
    outcome = await desk.carry_out((*fetches(), SetFinalizer(model=a_model())))
    assert (outcome.done, outcome.left) == (17, MANY - 16)
    assert desk.cluster.finalizers == 1


async def test_doors_that_hang_do_not_keep_the_others_waiting_turn_after_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_SECONDS", -1.0)
    monkeypatch.setattr(act, "_TIMEOUT_SECONDS", 0.001)
    desk = Desk(hanging=16, patience_seconds=10.0)
    left = set(range(MANY))
    for _ in range(400):
        await desk.carry_out(tuple(action for action in fetches() if int(cast("FetchWeights", action).node) in left))
        left -= {int(node) for node in desk.agents.fetched}
        if len(left) == 16:
            return
    raise AssertionError(f"never begun: {sorted(left)}")


async def test_a_turn_does_not_wait_for_a_cell_that_is_slow() -> None:
    desk = Desk()
    outcome = await desk.carry_out((*configured("slow"), SetFinalizer(model=a_model())))
    assert (outcome.done, outcome.failed, outcome.left) == (1, 0, 0)
    assert desk.cluster.finalizers == 1
    assert desk.counted == [("SetFinalizer", "done")]

    await desk.let_cells_answer()
    assert desk.counted[1:] == [("ConfigureCell", "done")]


async def test_turns_leave_a_cell_alone_whose_change_is_in_flight_and_the_other_cells_not() -> None:
    desk = Desk()
    await desk.carry_out(configured("slow"))
    await desk.carry_out(configured("slow", "other"))
    assert desk.cells.asked == ["slow", "other"]

    await desk.let_cells_answer()
    await desk.carry_out(configured("slow"))
    assert desk.cells.asked == ["slow", "other", "slow"]


async def test_weights_are_not_forgotten_while_the_fetch_of_them_is_in_flight() -> None:
    desk = Desk(hanging=1)
    await desk.carry_out(fetches()[:1])
    digest = a_content().artifact.digest
    await desk.carry_out((ForgetWeights(node="0", digest=digest), ForgetWeights(node="1", digest=digest)))
    await asyncio.sleep(0)
    assert desk.agents.forgotten == ["1"]
    desk.executor.abandon()


async def test_what_landed_asks_for_a_turn_only_if_one_left_something_undone_for_it() -> None:
    desk = Desk()
    await desk.carry_out(configured("one"))
    await desk.let_cells_answer()
    assert desk.pokes == []  # the cell itself tells that it is another one

    desk = Desk()
    await desk.carry_out(configured("one"))
    await desk.carry_out(configured("one"))
    await desk.let_cells_answer()
    assert desk.pokes == ["done late"]


@pytest.mark.parametrize(("code", "counted"), [("CellUnavailable", "failed"), ("BaseChanged", "overtaken")])
async def test_what_failed_in_flight_is_tried_again_after_a_pause(
    code: str, counted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(act, "RETRY_SECONDS", 0.0)
    desk = Desk()
    await desk.carry_out(configured("one"))
    await desk.let_cells_answer(DoorError(code, "in words"))
    assert desk.counted == [("ConfigureCell", counted)]
    await desk.poked.wait()
    assert desk.pokes == ["failed late"]


async def test_a_defect_in_flight_ends_nobody_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(act, "RETRY_SECONDS", 0.0)
    desk = Desk()
    await desk.carry_out(configured("one"))
    await desk.let_cells_answer(KeyError("a defect"))
    await desk.poked.wait()
    assert desk.pokes == ["failed late"]


async def test_a_higher_epoch_that_a_late_answer_tells_is_told_by_the_next_turn_once() -> None:
    desk = Desk()
    await desk.carry_out(configured("one"))
    await desk.let_cells_answer(FencedError("somebody else leads", epoch=7))
    assert desk.pokes == ["fenced"]
    assert (await desk.carry_out(())).fenced_by == 7
    assert (await desk.carry_out(())).fenced_by is None


async def test_a_source_is_being_asked_about_until_the_first_answer_has_landed() -> None:
    desk = Desk()
    await desk.carry_out((Resolve(key=QUESTION),))
    assert desk.executor.asking() == {"file:///a"}

    desk.agents.may_answer.set()
    await desk.executor.landed()
    assert desk.executor.asking() == frozenset()

    desk.agents.may_answer.clear()
    await desk.carry_out((Resolve(key=QUESTION),))
    assert desk.executor.asking() == frozenset()  # it is asked again, and what was answered is told meanwhile
    desk.agents.may_answer.set()
    await desk.executor.landed()
    assert desk.resolutions.answers().keys() == {QUESTION}
    assert desk.pokes == ["done late"]  # for the first answer: the second says the same


async def test_what_is_in_flight_when_the_process_is_cancelled_is_given_up() -> None:
    desk = Desk()
    await desk.carry_out(configured("one"))
    desk.executor.abandon()
    await desk.executor.landed()
    assert desk.counted == []
    assert desk.pokes == []


async def test_a_defect_that_ends_a_turn_leaves_no_other_cell_in_flight_for_ever() -> None:
    desk = Desk(patience_seconds=10.0)
    desk.cells.broken.add("broken")
    with pytest.raises(ExceptionGroup):
        await desk.carry_out(configured("slow", "broken"))

    async with asyncio.timeout(5):
        await desk.let_cells_answer()
    assert desk.counted == [("ConfigureCell", "done")]
    await desk.carry_out(configured("slow"))
    assert desk.cells.asked == ["slow", "broken", "slow"]
