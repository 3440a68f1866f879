"""The history of measurements on a real Postgres: what is written when, by whom, and what is not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from roadstead.adapters.postgres.store import PostgresLedger
from roadstead.domain.inventory import Device, Vendor
from roadstead.domain.measured import Shown
from roadstead.domain.model import ModelKey
from roadstead.domain.quality import QualityRecord
from roadstead.domain.snapshot import AgentFacts
from roadstead.ports import DoorError, FencedError
from roadstead_migrations import runner
from tests.contract.postgres.ledger_values import MORNING
from tests.contract.postgres.link import Link
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract

A, B = "a" * 64, "b" * 64
GIB = 1 << 30
ASSISTANT = ModelKey("team-a", "assistant")
CARD = Device(
    id="GPU-1",
    vendor=Vendor.NVIDIA,
    product="NVIDIA-L4",
    memory_bytes=24 * GIB,
    free_bytes=GIB,
    compute_capability=(8, 9),
)
T = TypeVar("T")
ROOT = Path(__file__).parents[3]
FIGURES = (
    "SELECT node, content, memory_bytes, tokens_per_second, first_token_seconds, started, ended, ended_why"
    " FROM measurements ORDER BY id"
)


def facts(*contents: str, memory: int = GIB, speed: float = 20.0, wait: float = 2.0) -> AgentFacts:
    return AgentFacts(
        epoch=1,
        cores=16,
        isa=(),
        budget_bytes=64 * GIB,
        free_bytes=32 * GIB,
        disk_free_bytes=64 * GIB,
        engines=(),
        weights=(),
        leases=(),
        measured_bytes=tuple((content, memory) for content in contents),
        measured_speeds=tuple((content, speed) for content in contents),
        measured_waits=tuple((content, wait) for content in contents),
        devices=(CARD, CARD),
    )


def shown(**agents: AgentFacts) -> Shown:
    return Shown(nodes=frozenset(agents), agents=agents, quality={})


def a_record(letter: str = "a", *, hour: int = 0, divergence: float = 0.02) -> QualityRecord:
    return QualityRecord(
        artifact=f"sha256:{letter * 64}",
        quality=0.99,
        divergence=divergence,
        same_top=0.95,
        perplexity=7.5,
        base=f"sha256:{'f' * 64}",
        base_quality=1.0,
        tool="llama-perplexity",
        tool_version="b1",
        corpus=f"sha256:{'c' * 64}",
        tokens=8192,
        measured=MORNING + timedelta(hours=hour),
    )


def records(*of_one: QualityRecord, model: ModelKey = ASSISTANT) -> Shown:
    return Shown(nodes=frozenset(), agents={}, quality={model: of_one})


class Desk:
    """Ledgers on one database, a clock, and a look past the product."""

    def __init__(self, url: URL, stack: AsyncExitStack) -> None:
        self.url = url
        self.now = MORNING
        self.transactions = 0
        self._stack = stack
        self._engine: Engine = create_engine(url, poolclass=NullPool)

    async def ledger(
        self, *, epoch: int = 1, installation: str = "here", url: URL | None = None, probe_seconds: float = 3600
    ) -> PostgresLedger:
        """As a leader of that epoch has it. Its probe stays quiet after the first question, if nothing else is said."""
        ledger = PostgresLedger(
            lambda: url or self.url,
            installation=installation,
            epoch=lambda: epoch,
            clock=lambda: self.now,
            probe_seconds=probe_seconds,
        )
        await self._stack.enter_async_context(ledger)
        await ledger.require_schema()
        transact = ledger._database.transact

        async def counted(work: Callable[[Session], T]) -> T:
            self.transactions += 1
            return await transact(work)

        ledger._database.transact = counted  # type: ignore[method-assign]
        return ledger

    def passes(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now

    def of(self, query: str) -> list[tuple[object, ...]]:
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def do(self, statement: str) -> None:
        with self._engine.begin() as connection:
            connection.exec_driver_sql(statement)


@pytest.fixture
async def desk(database: URL) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        yield Desk(database, stack)


async def test_a_row_is_open_while_its_figures_hold_and_another_follows_when_they_move(desk: Desk) -> None:
    ledger, seen = await desk.ledger(), desk.now
    await ledger.remember(shown(n=facts(A, B)))
    noise = desk.passes()
    await ledger.remember(shown(n=facts(A, B, speed=21.0, memory=int(GIB * 1.01))))
    moved = desk.passes()
    await ledger.remember(shown(n=facts(A, B, speed=25.0)))
    forgotten = desk.passes()
    await ledger.remember(shown(n=facts(A, speed=25.0)))
    gone = desk.passes()
    await ledger.remember(Shown(nodes=frozenset({"other"}), agents={}, quality={}))
    assert noise < moved
    assert desk.of(FIGURES) == [
        ("n", A, GIB, 20.0, 2.0, seen, moved, "Changed"),
        ("n", B, GIB, 20.0, 2.0, seen, moved, "Changed"),
        ("n", A, GIB, 25.0, 2.0, moved, gone, "Removed"),
        ("n", B, GIB, 25.0, 2.0, moved, forgotten, "Removed"),
    ]


async def test_a_row_tells_of_the_machine_as_it_was_when_the_row_was_opened(desk: Desk) -> None:
    await (await desk.ledger()).remember(shown(n=facts(A)))
    assert desk.of("SELECT installation, cores, accelerators, epoch FROM measurements") == [
        ("here", 16, ["NVIDIA-L4", "NVIDIA-L4"], 1)
    ]


async def test_without_news_there_is_no_transaction(desk: Desk) -> None:
    ledger, agent = await desk.ledger(), facts(A)
    told = replace(shown(n=agent), quality={ASSISTANT: (a_record(),)})
    await ledger.remember(told)
    assert desk.transactions == 3, "one reads, one writes measurements, one writes records"
    await ledger.remember(told)
    await ledger.remember(replace(told, agents={"n": replace(agent, free_bytes=1)}))
    await ledger.remember(replace(told, agents={"n": facts(A, speed=21.9)}, quality={ASSISTANT: (a_record(),)}))
    assert desk.transactions == 3


async def test_a_new_leader_goes_on_from_what_is_written(desk: Desk) -> None:
    await (await desk.ledger()).remember(replace(shown(n=facts(A)), quality={ASSISTANT: (a_record(),)}))
    successor = await desk.ledger(epoch=2)
    desk.transactions = 0
    await successor.remember(replace(shown(n=facts(A, speed=21.9)), quality={ASSISTANT: (a_record(),)}))
    assert desk.transactions == 1, "it reads"
    await successor.remember(shown(n=facts(A, speed=22.5)))
    assert desk.of("SELECT tokens_per_second, ended IS NULL, epoch FROM measurements ORDER BY id") == [
        (20.0, False, 2),
        (22.5, True, 2),
    ]


async def test_a_leader_of_an_older_epoch_writes_nothing(desk: Desk) -> None:
    old, new = await desk.ledger(epoch=1), await desk.ledger(epoch=2)
    await old.remember(shown(n=facts(A)))
    await new.remember(shown(n=facts(A, speed=30.0)))
    with pytest.raises(FencedError):
        await old.remember(shown(n=facts(A, speed=40.0)))
    with pytest.raises(FencedError):
        await old.remember(records(a_record()))
    assert desk.of("SELECT tokens_per_second FROM measurements WHERE ended IS NULL") == [(30.0,)]
    assert desk.of("SELECT 1 FROM quality_records") == []


async def test_a_leader_that_leads_again_reads_what_another_has_written_meanwhile(desk: Desk) -> None:
    first, other = await desk.ledger(epoch=1), await desk.ledger(epoch=2)
    await first.remember(shown(n=facts(A)))
    await other.remember(shown(n=facts(A, speed=30.0)))
    first._epoch = lambda: 3
    await first.remember(shown(n=facts(A)))
    assert desk.of("SELECT tokens_per_second, epoch FROM measurements WHERE ended IS NULL") == [(20.0, 3)]


async def test_another_installations_rows_are_left_alone(desk: Desk) -> None:
    here, there = await desk.ledger(), await desk.ledger(installation="there")
    await here.remember(shown(n=facts(A)))
    await there.remember(shown(n=facts(A, speed=50.0)))
    await there.remember(Shown(nodes=frozenset(), agents={}, quality={}))
    assert desk.of("SELECT installation, ended_why FROM measurements ORDER BY 1") == [
        ("here", None),
        ("there", "Removed"),
    ]


@pytest.mark.parametrize("lost", ["lose_next_commit", "swallow_next_commit"])
async def test_after_a_commit_without_an_answer_the_next_turn_writes_what_is_missing(desk: Desk, lost: str) -> None:
    async with Link(desk.url) as link:
        ledger = await desk.ledger(url=link.url)
        await ledger.remember(shown(n=facts(A)))
        setattr(link, lost, True)
        with pytest.raises(DoorError, match="LedgerUnavailable"):
            await ledger.remember(shown(n=facts(A, speed=40.0)))
        assert not getattr(link, lost), "the fault was never met"
        await ledger.remember(shown(n=facts(A, speed=40.0)))
    assert desk.of("SELECT tokens_per_second, ended_why FROM measurements ORDER BY id") == [
        (20.0, "Changed"),
        (40.0, None),
    ]


async def test_a_ledger_that_comes_back_from_a_backup_is_read_again(desk: Desk) -> None:
    async with Link(desk.url) as link:
        ledger = await desk.ledger(url=link.url, probe_seconds=0.05)
        told = replace(shown(n=facts(A)), quality={ASSISTANT: (a_record(),)})
        await ledger.remember(told)
        await link.cut()
        await until(lambda: ledger._why, "the probe finds nobody")
        for table in ("measurements", "quality_records"):
            desk.do(f"DROP TRIGGER no_truncate ON {table}; TRUNCATE {table}")
        await link.restore()
        await until(lambda: not ledger._why, "it answers again")
        await ledger.remember(told)
    assert desk.of("SELECT 1 FROM measurements CROSS JOIN quality_records") == [(1,)]


async def test_the_first_measurements_of_a_large_fleet_are_written_in_parts(desk: Desk) -> None:
    fleet = {f"n{number}": facts(A, B) for number in range(1250)}
    ledger = await desk.ledger()
    await ledger.remember(shown(**fleet))
    assert desk.transactions == 4, "one reads, three write"
    assert desk.of("SELECT count(*), count(DISTINCT node) FROM measurements WHERE ended IS NULL") == [(2500, 1250)]


async def test_history_is_closed_once_and_not_rewritten(desk: Desk) -> None:
    ledger = await desk.ledger()
    await ledger.remember(replace(shown(n=facts(A)), quality={ASSISTANT: (a_record(),)}))
    for refused, why in (
        ("DELETE FROM measurements", "history is not rewritten"),
        ("TRUNCATE measurements", "history is not rewritten"),
        ("UPDATE measurements SET tokens_per_second = 99", "can only be closed"),
        ("DELETE FROM quality_records", "history is not rewritten"),
        ("TRUNCATE quality_records", "history is not rewritten"),
        ("UPDATE quality_records SET quality = 1", "history is not rewritten"),
    ):
        with pytest.raises(DBAPIError, match=why):
            desk.do(refused)


async def test_quality_records_are_written_once_each_and_stay_when_the_annotation_is_gone(desk: Desk) -> None:
    ledger = await desk.ledger()
    await ledger.remember(records(a_record("a"), a_record("b", divergence=0.1)))
    await ledger.remember(records(a_record("a", divergence=0.5), a_record("b", hour=1, divergence=0.2)))
    await ledger.remember(records(a_record("a"), model=ModelKey("team-a", "other")))
    await ledger.remember(records())
    found = desk.of(
        "SELECT name, left(artifact, 8), divergence, base_quality, tool, tokens, measured FROM quality_records"
        " JOIN models ON models.id = model_id ORDER BY name, artifact, measured"
    )
    tool = ("llama-perplexity", 8192)
    assert found == [
        ("assistant", "sha256:a", 0.02, 1.0, *tool, MORNING),
        ("assistant", "sha256:b", 0.1, 1.0, *tool, MORNING),
        ("assistant", "sha256:b", 0.2, 1.0, *tool, MORNING + timedelta(hours=1)),
        ("other", "sha256:a", 0.02, 1.0, *tool, MORNING),
    ]


async def test_a_downgrade_never_drops_measurements_by_accident(desk: Desk) -> None:
    await (await desk.ledger()).remember(replace(shown(n=facts(A)), quality={ASSISTANT: (a_record(),)}))
    with pytest.raises(runner.MigrationProblem, match="remembers 1 measurements, 1 quality records, which"):
        await asyncio.to_thread(runner.downgrade, desk.url, "0001", discard_history=False)
    said = await asyncio.to_thread(runner.downgrade, desk.url, "0001", discard_history=True)
    assert said == "The schema went from 0002 to 0001."
    assert runner.upgrade(desk.url) == "The schema went from 0001 to 0002."
    assert runner.check(desk.url).endswith("equals the models.")


def test_the_queries_of_the_reference_are_understood(desk: Desk) -> None:
    queries = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/reference/ledger.md").read_text(), re.DOTALL)
    assert len(queries) == 2
    for query in queries:
        assert desk.of(query.replace(";", "")) == []
