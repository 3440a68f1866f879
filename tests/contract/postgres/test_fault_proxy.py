"""The fault rig's proxy before Postgres counts what was written, and fails when it is told to."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy.engine import URL

from tests.faults.rig.postgres_proxy import Flow, PostgresProxy, postgres_proxy
from tests.fixtures.patience import until
from tests.fixtures.postgres import as_libpq
from tests.simulation.calls import Cut

pytestmark = pytest.mark.contract


@pytest.fixture
async def proxy(empty_database: URL) -> AsyncIterator[PostgresProxy]:
    with connected(empty_database) as direct:
        direct.execute("CREATE TABLE rows (number int PRIMARY KEY)")
    async with postgres_proxy(empty_database) as proxy:
        yield proxy


@contextmanager
def connected(url: URL) -> Iterator[psycopg.Connection]:
    address = as_libpq(url)
    with psycopg.connect(address, connect_timeout=2) as connection:
        yield connection


def rows(url: URL) -> list[int]:
    with connected(url) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM rows ORDER BY 1").fetchall()]


def insert(*numbers: int) -> Callable[[URL], None]:
    def work(url: URL) -> None:
        with connected(url) as connection:
            for number in numbers:
                connection.execute("INSERT INTO rows VALUES (%s) ON CONFLICT DO NOTHING", (number,))

    return work


def prepared(number: int) -> Callable[[URL], None]:
    """As a driver does that speaks the extended protocol only."""

    def work(url: URL) -> None:
        with connected(url) as connection:
            connection.autocommit = True
            connection.execute("BEGIN", prepare=True)
            connection.execute("INSERT INTO rows VALUES (%s)", (number,), prepare=True)
            connection.execute("COMMIT", prepare=True)

    return work


async def test_only_transactions_that_changed_a_row_are_counted(proxy: PostgresProxy, empty_database: URL) -> None:
    assert await asyncio.to_thread(rows, proxy.url) == []
    assert proxy.commits == 0
    await asyncio.to_thread(insert(1, 2), proxy.url)
    assert proxy.commits == 1
    await asyncio.to_thread(insert(1), proxy.url)
    assert proxy.commits == 1
    await asyncio.to_thread(prepared(3), proxy.url)
    assert proxy.commits == 2
    assert await asyncio.to_thread(rows, empty_database) == [1, 2, 3]


@pytest.mark.parametrize("work", [insert(1), prepared(1)], ids=["simple", "extended"])
@pytest.mark.parametrize(("side", "left"), [(Cut.BEFORE, []), (Cut.AFTER, [1])])
async def test_a_connection_can_be_cut_on_either_side_of_a_commit(
    proxy: PostgresProxy, empty_database: URL, side: Cut, left: list[int], work: Callable[[URL], None]
) -> None:
    at_the_cut: list[list[int]] = []

    async def look() -> None:
        at_the_cut.append(await asyncio.to_thread(rows, empty_database))

    proxy.on_commit, proxy.cut = (lambda number: side if number == 1 else None), look
    with pytest.raises(psycopg.OperationalError):
        await asyncio.to_thread(work, proxy.url)
    assert at_the_cut == [left]
    assert await asyncio.to_thread(rows, empty_database) == left
    await asyncio.to_thread(insert(7), proxy.url)
    assert await asyncio.to_thread(rows, empty_database) == [*left, 7]


async def test_connections_are_refused_while_it_says_so(proxy: PostgresProxy) -> None:
    proxy.flow(Flow.REFUSED)
    with pytest.raises(psycopg.OperationalError):
        await asyncio.to_thread(rows, proxy.url)
    proxy.flow(Flow.FREE)
    assert await asyncio.to_thread(rows, proxy.url) == []


async def test_what_is_swallowed_is_never_answered(proxy: PostgresProxy, empty_database: URL) -> None:
    def twice(url: URL) -> None:
        with connected(url) as connection:
            connection.execute("SELECT 1")
            began.set()
            frozen.wait()
            connection.execute("INSERT INTO rows VALUES (1)")

    began, frozen = threading.Event(), threading.Event()
    caller = asyncio.create_task(asyncio.to_thread(twice, proxy.url))
    await until(began.is_set, "the caller is connected")
    proxy.flow(Flow.SWALLOWED)
    frozen.set()
    with pytest.raises(psycopg.OperationalError):
        await asyncio.to_thread(rows, proxy.url)
    assert not caller.done()
    proxy.flow(Flow.FREE)
    with pytest.raises(psycopg.OperationalError):
        await caller
    assert await asyncio.to_thread(rows, empty_database) == []
    assert await asyncio.to_thread(rows, proxy.url) == []


async def test_a_slow_server_is_slow_and_right(proxy: PostgresProxy) -> None:
    proxy.delay_seconds = 0.2
    began = time.monotonic()
    assert await asyncio.to_thread(rows, proxy.url) == []
    assert time.monotonic() - began > 0.2
