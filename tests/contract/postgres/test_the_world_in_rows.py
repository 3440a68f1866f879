"""However a world follows another, the open rows are the world's; only rows of models that changed are read."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.engine import URL

from roadstead.adapters.postgres.store import PostgresLedger
from roadstead.domain.plan import World
from tests.contract.postgres.ledger_values import MORNING, a_placement, an_incarnation

pytestmark = pytest.mark.contract

_MODELS = ("a", "b", "c", "d", "e")
_OPEN_PLACEMENTS = """
    SELECT models.name, slot, replicas FROM placements JOIN models ON models.id = model_id WHERE ended IS NULL
"""
_OPEN_INCARNATIONS = """
    SELECT models.name, uid FROM model_incarnations JOIN models ON models.id = model_id WHERE ended IS NULL
"""


@pytest.fixture
def engine(database: URL) -> Iterator[Engine]:
    engine = create_engine(database, poolclass=NullPool)
    yield engine
    engine.dispose()


def _rows(engine: Engine, query: str) -> set[tuple[object, ...]]:
    with engine.connect() as connection:
        return {tuple(row) for row in connection.execute(text(query))}


def _a_world(chance: random.Random, before: World) -> World:
    """One or two models are others; now and then a cell is not known."""
    changing = set(chance.sample(_MODELS, chance.choice((1, 1, 2))))
    incarnations = [each for each in before.incarnations if each.key.name not in changing]
    placements = [each for each in before.placements or () if each.model.name not in changing]
    for name in changing:
        if chance.random() < 0.8:
            incarnations.append(an_incarnation(f"{name}-{chance.randint(1, 2)}", name=name))
        placements.extend(
            a_placement(f"{name}.{slot}", model=name, replicas=chance.randint(1, 2))
            for slot in chance.sample(("x", "y", "z"), chance.randint(0, 3))
        )
    return World(incarnations=tuple(incarnations), placements=None if chance.random() < 0.2 else tuple(placements))


@pytest.mark.parametrize("seed", range(4))
async def test_the_open_rows_are_the_worlds_after_any_sequence_of_worlds(
    database: URL, engine: Engine, seed: int
) -> None:
    chance, world = random.Random(seed), World(incarnations=(), placements=())
    epoch = 1
    ledger = PostgresLedger(
        lambda: database, installation="here", epoch=lambda: epoch, clock=lambda: MORNING, poke=lambda _: None
    )
    async with ledger:
        for _ in range(30):
            world = _a_world(chance, world)
            epoch += chance.random() < 0.1
            await ledger.reconcile(world)
            told = {(each.key.name, each.uid) for each in world.incarnations}
            assert _rows(engine, _OPEN_INCARNATIONS) == told
            if world.placements is not None:
                placed = {(each.model.name, each.slot, each.replicas) for each in world.placements}
                assert _rows(engine, _OPEN_PLACEMENTS) == placed
