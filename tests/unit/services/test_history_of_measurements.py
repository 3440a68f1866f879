"""What engines show comes into the ledger after the fact: once, and not again while it stays as it is."""

from __future__ import annotations

from roadstead.domain.model import ModelKey, VariantSpec
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact

SOURCE = "file:///models/small.gguf"


def a_fleet() -> MemoryFleet:
    files = {SOURCE: artifact("small", mebibytes=80, bits=4.5)}
    fleet = MemoryFleet(nodes={"n0": MemoryNode(budget=1000 * MIB, files=files, reads=4000.0 * MIB)})
    fleet.apply("assistant", VariantSpec(name="small", source=SOURCE))
    return fleet


def speeds(fleet: MemoryFleet) -> list[float | None]:
    return [round(each.tokens_per_second or 0) for each in fleet.rows.measurements.values()]


async def test_what_an_engine_showed_is_written_once_and_stays_when_the_model_is_gone() -> None:
    fleet = a_fleet()
    await fleet.settle()
    assert speeds(fleet) == [50]
    assert fleet.writes.count("measurements") == 1

    fleet.delete(ModelKey("team", "assistant"))
    await fleet.settle()
    assert speeds(fleet) == [50]
    assert fleet.writes.count("measurements") == 1


async def test_noise_writes_nothing_and_what_has_moved_is_written() -> None:
    fleet = a_fleet()
    await fleet.settle()
    for reads, writes in ((4300.0, 1), (3700.0, 1), (8000.0, 2)):
        fleet.nodes["n0"].reads = reads * MIB
        await fleet.turn()
        await fleet.turn()
        assert fleet.writes.count("measurements") == writes
    assert speeds(fleet) == [100]


async def test_what_was_measured_while_the_ledger_was_away_is_written_when_it_is_back() -> None:
    fleet = a_fleet()
    await fleet.settle()
    fleet.ledger_answers = False
    fleet.nodes["n0"].reads = 8000.0 * MIB
    await fleet.settle()
    assert speeds(fleet) == [50]

    fleet.ledger_answers = True
    await fleet.settle()
    assert speeds(fleet) == [100]
