"""What the ledger records, what it refuses, and how it behaves when Postgres does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from roadstead.adapters.postgres.address import database_address
from roadstead.adapters.postgres.schema_version import SchemaProblem
from roadstead.adapters.postgres.store import PostgresLedger
from roadstead.domain.plan import World
from roadstead.domain.snapshot import Known, LedgerFacts, Stale, Unknown
from roadstead.ports import DoorError, FencedError
from tests.contract.postgres.ledger_values import MORNING, a_content, a_model, a_placement, an_incarnation
from tests.contract.postgres.link import Link
from tests.fixtures.patience import found, until
from tests.fixtures.postgres import as_libpq

pytestmark = pytest.mark.contract


class Clock:
    def __init__(self) -> None:
        self.now = MORNING

    def __call__(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


class Leader:
    """A ledger as a leader of some epoch has it, with what it was told."""

    def __init__(self, url: URL, *, epoch: int = 1, installation: str = "here", patience_seconds: float = 12.0) -> None:
        self.clock = Clock()
        self.epoch = epoch
        self.pokes: list[str] = []
        self.ledger = PostgresLedger(
            lambda: url,
            installation=installation,
            epoch=lambda: self.epoch,
            clock=self.clock,
            poke=self.pokes.append,
            probe_seconds=0.05,
            patience_seconds=patience_seconds,
        )


@asynccontextmanager
async def leading(
    url: URL, *, epoch: int = 1, installation: str = "here", patience_seconds: float = 12.0
) -> AsyncIterator[Leader]:
    leader = Leader(url, epoch=epoch, installation=installation, patience_seconds=patience_seconds)
    async with leader.ledger:
        yield leader


@pytest.fixture
def rows(database: URL) -> Iterator[Rows]:
    rows = Rows(database)
    yield rows
    rows.engine.dispose()


class Rows:
    """Looks at, and pokes at, the tables past the product."""

    def __init__(self, url: URL) -> None:
        self.engine = create_engine(url, poolclass=NullPool)

    def of(self, query: str) -> list[tuple[object, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def do(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)


# --- releases -------------------------------------------------------------------------------------------------------


async def test_releases_are_numbered_within_their_lineage(database: URL) -> None:
    async with leading(database) as leader:
        number = leader.ledger.number_release
        assert await number(a_model(), (a_content("a"),)) == 1
        assert await number(a_model(), (a_content("b"),)) == 2
        assert await number(a_model("other"), (a_content("b"),)) == 1
        assert await number(a_model(namespace="team-b"), (a_content("b"),)) == 1


async def test_the_same_set_of_contents_returns_to_its_old_number(database: URL, rows: Rows) -> None:
    async with leading(database) as leader:
        number = leader.ledger.number_release
        first, second = a_content("a"), a_content("b")
        assert await number(a_model(), (first, second)) == 1
        assert await number(a_model(), (first,)) == 2
        assert await number(a_model(uid="recreated"), (second, first)) == 1
    assert rows.of("SELECT number, uid, generation, epoch FROM releases ORDER BY number") == [
        (1, "uid-1", 3, 1),
        (2, "uid-1", 3, 1),
    ]
    assert rows.of("SELECT number, position, variant FROM release_contents ORDER BY 1, 2") == [
        (1, 0, "q4"),
        (1, 1, "q4"),
        (2, 0, "q4"),
    ]


async def test_another_installation_has_lineages_of_its_own(database: URL) -> None:
    async with leading(database) as here, leading(database, installation="there") as there:
        assert await here.ledger.number_release(a_model(), (a_content("a"),)) == 1
        assert await here.ledger.number_release(a_model(), (a_content("b"),)) == 2
        assert await there.ledger.number_release(a_model(), (a_content("b"),)) == 1


async def test_concurrent_callers_never_share_a_number(database: URL) -> None:
    async with leading(database) as one, leading(database) as other:
        sets = [(a_content("a", context_tokens=1000 + index),) for index in range(8)]
        numbers = await asyncio.gather(
            *(ledger.number_release(a_model(), contents) for contents in sets for ledger in (one.ledger, other.ledger))
        )
    assert sorted(set(numbers)) == list(range(1, 9))
    assert numbers[::2] == numbers[1::2]


async def test_text_that_postgres_cannot_hold_does_not_stop_a_release(database: URL, rows: Rows) -> None:
    async with leading(database) as leader:
        assert await leader.ledger.number_release(a_model(), (a_content("a", licence="m\x00i\ud800t"),)) == 1
    assert rows.of("SELECT licence, facts ->> 'licence', facts ->> 'block_count' FROM artifacts") == [
        ("m�i?t", "m�i?t", "2")
    ]


# --- history is not rewritten ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["models", "artifacts", "contents", "releases", "release_contents"])
async def test_what_was_recorded_once_cannot_be_changed_or_removed(table: str, database: URL, rows: Rows) -> None:
    async with leading(database) as leader:
        await leader.ledger.number_release(a_model(), (a_content(),))
    column = {"release_contents": "variant = 'other'"}.get(table, "epoch = epoch + 1")
    for statement in ("UPDATE $t SET $c", "DELETE FROM $t", "TRUNCATE $t CASCADE"):
        with pytest.raises(DBAPIError, match="history is not rewritten"):
            rows.do(statement.replace("$t", table).replace("$c", column))


@pytest.mark.parametrize("table", ["model_incarnations", "placements"])
async def test_what_was_opened_can_be_closed_once_and_nothing_else(table: str, database: URL, rows: Rows) -> None:
    async with leading(database, epoch=5) as leader:
        await leader.ledger.reconcile(World(incarnations=(an_incarnation(),), placements=(a_placement(),)))
    for refused, why in (
        ("DELETE FROM $t", "history is not rewritten"),
        ("TRUNCATE $t", "history is not rewritten"),
        ("UPDATE $t SET started = now()", "can only be closed"),
        ("UPDATE $t SET ended = now(), ended_why = 'x', started = now()", "can only be closed"),
        ("UPDATE $t SET ended = now(), ended_why = 'x', epoch = 4", "written under epoch 5"),
    ):
        with pytest.raises(DBAPIError, match=why):
            rows.do(refused.replace("$t", table))
    rows.do("UPDATE $t SET ended = now(), ended_why = 'x'".replace("$t", table))
    for again in ("ended = NULL, ended_why = NULL", "ended_why = 'y'"):
        with pytest.raises(DBAPIError, match="is closed"):
            rows.do("UPDATE $t SET $c".replace("$t", table).replace("$c", again))


# --- the world ------------------------------------------------------------------------------------------------------


async def test_open_rows_follow_the_world(database: URL, rows: Rows) -> None:
    placements = "SELECT slot, replicas, started, ended, ended_why FROM placements ORDER BY id"
    async with leading(database) as leader:
        reconcile = leader.ledger.reconcile
        opened = leader.clock.now
        await reconcile(World(incarnations=(an_incarnation(),), placements=(a_placement("x"), a_placement("y"))))
        changed = leader.clock.passes(60)
        await reconcile(World(incarnations=(an_incarnation(),), placements=(a_placement("x", replicas=2),)))
        gone = leader.clock.passes(60)
        await reconcile(World(incarnations=(), placements=()))
        again = leader.clock.passes(60)
        await reconcile(World(incarnations=(an_incarnation("uid-2"),), placements=()))
    assert rows.of(placements) == [
        ("x", 1, opened, changed, "Changed"),
        ("y", 1, opened, changed, "Removed"),
        ("x", 2, changed, gone, "Removed"),
    ]
    assert rows.of("SELECT uid, created, started, ended, ended_why FROM model_incarnations ORDER BY id") == [
        ("uid-1", MORNING, opened, gone, "Deleted"),
        ("uid-2", MORNING, again, None, None),
    ]
    assert rows.of("SELECT count(*) FROM models") == [(1,)]


async def test_an_object_that_comes_back_after_a_restore_gets_a_row_of_its_own(database: URL, rows: Rows) -> None:
    async with leading(database) as leader:
        for world in ((an_incarnation(),), (), (an_incarnation(),)):
            leader.clock.passes(1)
            await leader.ledger.reconcile(World(incarnations=world, placements=None))
    assert rows.of("SELECT uid, ended IS NULL FROM model_incarnations ORDER BY id") == [
        ("uid-1", False),
        ("uid-1", True),
    ]


async def test_placements_stay_open_while_a_cell_is_not_known(database: URL, rows: Rows) -> None:
    async with leading(database) as leader:
        await leader.ledger.reconcile(World(incarnations=(), placements=(a_placement(),)))
        await leader.ledger.reconcile(World(incarnations=(), placements=None))
    assert rows.of("SELECT ended FROM placements") == [(None,)]


async def test_another_installations_rows_are_left_alone(database: URL, rows: Rows) -> None:
    async with leading(database) as here, leading(database, installation="there") as there:
        await here.ledger.reconcile(World(incarnations=(an_incarnation(),), placements=(a_placement(),)))
        await there.ledger.reconcile(World(incarnations=(), placements=()))
    assert rows.of("SELECT ended FROM placements UNION ALL SELECT ended FROM model_incarnations") == [(None,), (None,)]


async def test_a_world_that_was_recorded_costs_no_transaction(database: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(incarnations=(an_incarnation(),), placements=(a_placement(),))
    async with leading(database) as leader:
        await _quiet(leader)
        await leader.ledger.reconcile(world)
        monkeypatch.setattr(leader.ledger._database, "transact", _refuse)
        await leader.ledger.reconcile(world)
        with pytest.raises(AssertionError, match="a transaction"):
            await leader.ledger.reconcile(World(incarnations=(), placements=None))


async def _refuse(work: object) -> None:
    raise AssertionError("a transaction")


# --- epochs ---------------------------------------------------------------------------------------------------------


async def test_a_leader_of_an_older_epoch_cannot_write(database: URL, rows: Rows) -> None:
    world = World(incarnations=(an_incarnation(),), placements=(a_placement(),))
    async with leading(database, epoch=3) as old, leading(database, epoch=4) as new:
        await old.ledger.reconcile(world)
        await new.ledger.number_release(a_model(), (a_content("a"),))
        with pytest.raises(FencedError) as fenced:
            await old.ledger.number_release(a_model(), (a_content("b"),))
        assert fenced.value.epoch == 4
        with pytest.raises(FencedError):
            await old.ledger.reconcile(World(incarnations=(), placements=()))
        assert rows.of("SELECT count(*) FROM placements WHERE ended IS NULL") == [(1,)]
        old.epoch = 5
        assert await old.ledger.number_release(a_model(), (a_content("b"),)) == 2
    with pytest.raises(DBAPIError, match="it only grows"):
        rows.do("UPDATE installations SET epoch = 1")


async def test_a_successors_first_write_waits_for_the_one_under_way(database: URL, rows: Rows) -> None:
    async with leading(database, epoch=1) as old, leading(database, epoch=2) as new:
        await old.ledger.reconcile(World(incarnations=(an_incarnation(),), placements=()))
        with rows.engine.connect() as under_way:
            under_way.execute(text("SELECT epoch FROM installations FOR SHARE"))
            taking_over = asyncio.create_task(new.ledger.number_release(a_model(), (a_content(),)))
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND state = 'active'"
            await until(lambda: rows.of(waiting) == [(1,)], "the successor waits")
            assert not taking_over.done()
        assert await taking_over == 1


async def test_a_ledger_restored_from_an_older_backup_gives_no_number_twice(database: URL) -> None:
    async with leading(database) as leader:
        assert await leader.ledger.number_release(a_model(), (a_content("a"),)) == 1
        assert await leader.ledger.number_release(a_model(), (a_content("c"),), above=3) == 4
        assert await leader.ledger.number_release(a_model(), (a_content("a"),), above=4) == 1


# --- when Postgres does not answer ----------------------------------------------------------------------------------


async def test_a_commit_whose_answer_was_lost_is_read_back(database: URL, rows: Rows) -> None:
    async with Link(database) as link, leading(link.url) as leader:
        assert await leader.ledger.number_release(a_model(), (a_content("a"),)) == 1
        await _quiet(leader)
        link.lose_next_commit = True
        assert await leader.ledger.number_release(a_model(), (a_content("b"),)) == 2
        assert not link.lose_next_commit, "the fault was never met"
    assert rows.of("SELECT number FROM releases ORDER BY 1") == [(1,), (2,)]


async def test_a_commit_that_never_arrived_is_reported_and_not_repeated(database: URL, rows: Rows) -> None:
    async with Link(database) as link, leading(link.url) as leader:
        await _quiet(leader)
        link.swallow_next_commit = True
        with pytest.raises(DoorError, match="LedgerUnavailable"):
            await leader.ledger.number_release(a_model(), (a_content("b"),))
        assert rows.of("SELECT number FROM releases") == []
        assert await leader.ledger.number_release(a_model(), (a_content("b"),)) == 1


async def test_killed_backends_cost_nothing_but_a_new_connection(database: URL, rows: Rows) -> None:
    async with leading(database) as leader:
        assert await leader.ledger.number_release(a_model(), (a_content("a"),)) == 1
        rows.of(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'roadstead-operator' AND datname = current_database()"
        )
        assert await leader.ledger.number_release(a_model(), (a_content("b"),)) == 2


async def test_an_address_that_was_changed_in_its_file_holds_for_the_next_connection(
    database: URL, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://nobody@127.0.0.1:1/none\n")
    ledger = PostgresLedger(
        database_address(url="", file=file), installation="here", epoch=lambda: 1, clock=Clock(), probe_seconds=0.05
    )
    async with ledger:
        await until(lambda: "port 1 failed" in str(ledger.facts()), "nobody answers there")
        file.unlink()
        await until(lambda: "cannot be read: No such file" in str(ledger.facts()), "a lost file is told, not died of")

        file.write_text(as_libpq(database))

        await until(lambda: isinstance(ledger.facts(), Known), "the ledger answers")


async def test_a_database_that_goes_away_becomes_stale_and_comes_back(database: URL) -> None:
    known = Known(LedgerFacts(installation="here"))
    async with Link(database) as link, leading(link.url) as leader:
        await until(lambda: leader.ledger.facts() == known, "the ledger answers")
        await link.cut()
        with pytest.raises(DoorError, match="LedgerUnavailable"):
            await leader.ledger.number_release(a_model(), (a_content(),))
        answered = leader.clock.now
        leader.clock.passes(30)
        assert leader.ledger.facts() == known
        leader.clock.passes(1)
        assert leader.ledger.facts() == Stale(LedgerFacts(installation="here"), answered)
        pokes = len(leader.pokes)
        await link.restore()
        await until(lambda: leader.ledger.facts() == known, "the ledger answers again")
        assert leader.pokes[pokes:] == ["ledger"]
        assert await leader.ledger.number_release(a_model(), (a_content(),)) == 1


async def test_a_database_that_freezes_is_given_up_in_time(database: URL) -> None:
    async with Link(database) as link, leading(link.url, patience_seconds=1.0) as leader:
        await until(lambda: isinstance(leader.ledger.facts(), Known), "the ledger answers")
        link.freeze()
        with pytest.raises(DoorError, match="LedgerUnavailable"):
            await leader.ledger.number_release(a_model(), (a_content(),))
        link.thaw()
        await until(lambda: leader.ledger.facts() == Known(LedgerFacts(installation="here")), "it answers again")
        # A probe that was frozen as well is given up a moment later, and with it whatever is under way.
        assert await found(lambda: _numbered(leader), "a release is numbered again") == 1


async def _numbered(leader: Leader) -> int | None:
    try:
        return await leader.ledger.number_release(a_model(), (a_content(),))
    except DoorError:
        return None


async def test_a_database_that_never_answered_is_unknown_and_says_why(database: URL) -> None:
    async with Link(database) as link:
        url = link.url
    async with leading(url) as leader:
        await until(lambda: "refused" in _why(leader), "the reason")
        with pytest.raises(DoorError, match="LedgerUnavailable"):
            await leader.ledger.require_schema()


def _why(leader: Leader) -> str:
    facts = leader.ledger.facts()
    assert isinstance(facts, Unknown)
    return facts.why


async def test_a_database_without_a_schema_is_unknown_until_somebody_migrates(empty_database: URL) -> None:
    from roadstead_migrations import runner

    async with leading(empty_database) as leader:
        with pytest.raises(SchemaProblem, match="no schema yet"):
            await leader.ledger.require_schema()
        with pytest.raises(DoorError):
            await leader.ledger.number_release(a_model(), (a_content(),))
        assert isinstance(leader.ledger.facts(), Unknown)
        await asyncio.to_thread(runner.upgrade, empty_database)
        await until(lambda: isinstance(leader.ledger.facts(), Known), "the ledger answers")
        assert await leader.ledger.number_release(a_model(), (a_content(),)) == 1


async def test_a_primary_that_became_a_standby_is_left_for_the_new_one(database: URL) -> None:
    async with leading(database) as leader:
        await _quiet(leader)
        await _demote(leader)
        with pytest.raises(DoorError, match="accepts no writes"):
            await leader.ledger.number_release(a_model(), (a_content(),))
        assert await leader.ledger.number_release(a_model(), (a_content(),)) == 1


async def test_a_standby_is_not_taken_for_a_ledger_that_answers(database: URL, rows: Rows) -> None:
    async with leading(database) as leader:
        await until(lambda: isinstance(leader.ledger.facts(), Known), "the ledger answers")
        read_only = f'ALTER DATABASE "{database.database}" SET default_transaction_read_only = on'
        await _demote(leader, meanwhile=lambda: rows.do(read_only))
        leader.clock.passes(31)
        await until(lambda: "read-only" in leader.ledger._why, "the probe finds no server that takes writes")
        assert isinstance(leader.ledger.facts(), Stale)


async def _demote(leader: Leader, *, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Every connection of the pool finds itself on a server that is read-only."""
    engine = leader.ledger._database._engine

    def demote() -> None:
        with ExitStack() as held:
            for _ in range(4):
                connection = held.enter_context(engine.connect())
                connection.exec_driver_sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
                connection.commit()
            meanwhile()

    await asyncio.to_thread(demote)


async def _quiet(leader: Leader) -> None:
    """No probe takes the fault that is meant for a release."""
    await until(lambda: isinstance(leader.ledger.facts(), Known), "the ledger answers")
    assert leader.ledger._probe is not None
    leader.ledger._probe.cancel()
    await asyncio.wait([leader.ledger._probe])
