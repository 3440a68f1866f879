"""Turns do not wait for a ledger that is slow, and nothing that it does late is lost or done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from roadstead.domain.measured import Shown
from roadstead.domain.model import Model
from roadstead.domain.plan import World
from roadstead.domain.release import Content
from roadstead.domain.snapshot import Known, LedgerFacts, Part
from roadstead.ports import DoorError
from roadstead.services.prompt_ledger import PromptLedger
from tests.contract.postgres.ledger_values import a_content, a_model, a_placement, an_incarnation
from tests.fixtures.patience import until

EARLIER = World(incarnations=(an_incarnation(),), placements=())
LATER = World(incarnations=(an_incarnation(),), placements=(a_placement(),))
CONTENTS = (a_content("a"),)


class SlowLedger:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.answers: asyncio.Queue[int | DoorError] = asyncio.Queue()

    def facts(self) -> Part[LedgerFacts]:
        return Known(LedgerFacts(installation="here"))

    async def number_release(self, model: Model, contents: tuple[Content, ...], *, above: int = 0) -> int:
        self.asked.append(model.key.name)
        return await self._answer()

    async def reconcile(self, world: World) -> None:
        self.asked.append(world)
        await self._answer()

    async def remember(self, shown: Shown) -> None:
        self.asked.append(shown)
        await self._answer()

    async def _answer(self) -> int:
        answer = await self.answers.get()
        if isinstance(answer, DoorError):
            raise answer
        return answer


class Desk:
    def __init__(self) -> None:
        self.slow = SlowLedger()
        self.pokes: list[str] = []
        self.ledger = PromptLedger(self.slow, poke=self.pokes.append, patience_seconds=0.02)

    async def refused(self, name: str = "assistant") -> float:
        """The seconds that a caller lost."""
        clock = asyncio.get_running_loop().time
        began = clock()
        with pytest.raises(DoorError, match="has not answered"):
            await self.ledger.number_release(a_model(name), CONTENTS)
        return clock() - began


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    async with desk.ledger:
        yield desk


async def test_a_prompt_answer_is_the_answer(desk: Desk) -> None:
    desk.slow.answers.put_nowait(7)
    assert await desk.ledger.number_release(a_model(), CONTENTS) == 7
    desk.slow.answers.put_nowait(DoorError("LedgerUnavailable", "no"))
    with pytest.raises(DoorError, match="no"):
        await desk.ledger.number_release(a_model(), CONTENTS)
    assert desk.pokes == []


async def test_what_is_late_goes_on_and_is_asked_once(desk: Desk) -> None:
    await desk.refused()
    await desk.refused()
    desk.slow.answers.put_nowait(7)
    await until(lambda: desk.pokes, "the loop is woken")
    assert await desk.ledger.number_release(a_model(), CONTENTS) == 7
    assert desk.slow.asked == ["assistant"]


async def test_while_one_is_late_nobody_waits(desk: Desk) -> None:
    await desk.refused()
    lost = sum([await desk.refused(f"model-{number}") for number in range(50)])
    assert lost < 50 * 0.02


async def test_what_failed_late_is_begun_anew(desk: Desk) -> None:
    await desk.refused()
    desk.slow.answers.put_nowait(DoorError("LedgerUnavailable", "no"))
    await until(desk.slow.answers.empty, "it fails")
    desk.slow.answers.put_nowait(8)
    assert await desk.ledger.number_release(a_model(), CONTENTS) == 8
    assert desk.slow.asked == ["assistant", "assistant"]
    assert desk.pokes == []


async def test_a_later_world_is_written_after_the_earlier_one(desk: Desk) -> None:
    with pytest.raises(DoorError):
        await desk.ledger.reconcile(EARLIER)
    with pytest.raises(DoorError):
        await desk.ledger.reconcile(LATER)
    assert desk.slow.asked == [EARLIER]
    desk.slow.answers.put_nowait(0)
    await until(lambda: desk.pokes, "the loop is woken")
    desk.slow.answers.put_nowait(0)
    await desk.ledger.reconcile(LATER)
    assert desk.slow.asked == [EARLIER, LATER]


async def test_measurements_are_written_after_the_earlier_ones_and_beside_a_world(desk: Desk) -> None:
    earlier, later = (Shown(nodes=frozenset(names), agents={}, quality={}) for names in ("a", "ab"))
    for shown in (earlier, later):
        with pytest.raises(DoorError):
            await desk.ledger.remember(shown)
    with pytest.raises(DoorError):
        await desk.ledger.reconcile(EARLIER)
    assert desk.slow.asked == [earlier, EARLIER]
    for _ in range(3):
        desk.slow.answers.put_nowait(0)
    await until(lambda: len(desk.pokes) == 2, "both are done")
    await desk.ledger.remember(later)
    assert desk.slow.asked == [earlier, EARLIER, later]
