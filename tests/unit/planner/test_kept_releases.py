"""Which releases stay at hand: those in use and the newest few. Of the others the ledger tells."""

from __future__ import annotations

import pytest

from roadstead.domain.model import ModelKey, VariantSpec
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact

FIRST, SECOND = "file:///models/first.gguf", "file:///models/second.gguf"
FILES = {source: artifact(source, mebibytes=100) for source in (FIRST, SECOND)}
OF_FIRST, OF_SECOND = VariantSpec(name="q8", source=FIRST), VariantSpec(name="q8", source=SECOND)


@pytest.fixture
def fleet() -> MemoryFleet:
    return MemoryFleet(nodes={name: MemoryNode(budget=2000 * MIB, files=dict(FILES)) for name in ("node-a", "node-b")})


def kept(fleet: MemoryFleet, model: ModelKey) -> list[int]:
    return sorted(number for key, number in fleet.revisions if key == model)


async def changed(fleet: MemoryFleet, times: int, *, keep: int = 3) -> ModelKey:
    """A model that has had so many releases."""
    for number in range(times):
        fleet.apply("assistant", OF_SECOND, context_tokens=512 + 256 * number, keep_releases=keep)
        await fleet.settle()
    return ModelKey("team", "assistant")


async def test_the_newest_three_stay_and_the_ledger_has_them_all(fleet: MemoryFleet) -> None:
    model = await changed(fleet, 6)

    assert kept(fleet, model) == [4, 5, 6]
    assert sorted(fleet.rows.numbers[model]) == [1, 2, 3, 4, 5, 6]


async def test_a_model_may_keep_more_or_only_what_it_serves(fleet: MemoryFleet) -> None:
    model = await changed(fleet, 4, keep=10)
    assert kept(fleet, model) == [1, 2, 3, 4]

    fleet.apply("assistant", OF_SECOND, context_tokens=512 + 256 * 3, keep_releases=1)
    await fleet.settle()

    assert kept(fleet, model) == [4]
    assert fleet.running(model)


async def test_what_is_served_stays_however_old_it_is(fleet: MemoryFleet) -> None:
    model = await changed(fleet, 3)

    fleet.apply("assistant", OF_SECOND, context_tokens=512, keep_releases=1)
    await fleet.settle()

    assert kept(fleet, model) == [1, 3]
    assert fleet.release_number(model) == 1


async def test_a_change_back_to_what_is_not_at_hand_any_more_finds_its_number_again(fleet: MemoryFleet) -> None:
    model = await changed(fleet, 6)

    fleet.apply("assistant", OF_SECOND, context_tokens=512)
    await fleet.settle()

    assert fleet.release_number(model) == 1
    assert kept(fleet, model) == [1, 4, 5, 6]


async def test_weights_go_with_the_last_release_that_names_them(fleet: MemoryFleet) -> None:
    fleet.apply("assistant", OF_FIRST)
    await fleet.settle()
    await changed(fleet, 2)
    assert any(FILES[FIRST].digest in node.weights for node in fleet.nodes.values())

    await changed(fleet, 4)

    assert not any(FILES[FIRST].digest in node.weights for node in fleet.nodes.values())


@pytest.mark.parametrize("away", ["ledger", "cell"])
async def test_nothing_is_forgotten_while_something_that_could_need_it_is_away(fleet: MemoryFleet, away: str) -> None:
    model = await changed(fleet, 4, keep=10)
    fleet.silence(away, told=True)

    fleet.apply("assistant", OF_SECOND, context_tokens=512 + 256 * 3, keep_releases=1)
    await fleet.settle()
    assert kept(fleet, model) == [1, 2, 3, 4]

    fleet.silent.clear()
    await fleet.settle()
    assert kept(fleet, model) == [4]
