"""Migrations go up, down and up again, one at a time, and say what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import URL

from roadstead.adapters.postgres.address import AddressProblem, database_url
from roadstead.adapters.postgres.schema_version import AppliedSchema, SchemaProblem, check_schema, read_schema
from roadstead_migrations import runner
from roadstead_migrations.__main__ import main
from tests.fixtures.postgres import as_libpq

pytestmark = pytest.mark.contract


def test_up_down_and_up_again_leaves_the_schema_of_the_models(empty_database: URL) -> None:
    assert runner.upgrade(empty_database) == "The schema went from nothing to 0002."
    assert runner.check(empty_database) == "The schema is at 0002 and equals the models."
    assert runner.downgrade(empty_database, "base", discard_history=False) == "The schema went from 0002 to nothing."
    assert _tables(empty_database) == {"alembic_version"}
    assert runner.upgrade(empty_database) == "The schema went from nothing to 0002."
    assert runner.check(empty_database) == "The schema is at 0002 and equals the models."
    assert runner.upgrade(empty_database) == "Nothing to do: the schema is at 0002."


def test_a_difference_between_models_and_database_is_found(database: URL) -> None:
    _execute(database, "ALTER TABLE placements DROP COLUMN memory_bytes")
    with pytest.raises(runner.MigrationProblem, match="memory_bytes"):
        runner.check(database)


def test_two_migrators_at_once_both_succeed(empty_database: URL) -> None:
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: runner.upgrade(empty_database), range(4)))
    assert max(said) == "The schema went from nothing to 0002."
    assert said.count("Nothing to do: the schema is at 0002.") == 3


def test_a_migrator_that_cannot_get_the_lock_says_so(empty_database: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOCK_SECONDS", 1)
    engine = create_engine(empty_database, poolclass=NullPool)
    with engine.connect() as holder:
        holder.execute(text("SELECT pg_advisory_lock(:key)"), {"key": runner._ADVISORY_KEY})
        with pytest.raises(runner.MigrationProblem, match="held a lock"):
            runner.upgrade(empty_database, patience_seconds=0)
    assert runner.upgrade(empty_database).endswith("to 0002.")


def test_a_downgrade_never_drops_releases_by_accident(database: URL) -> None:
    _execute(
        database,
        """
        INSERT INTO installations VALUES ('here', 1, now());
        INSERT INTO models (installation, namespace, name, recorded, epoch) VALUES ('here', 'team', 'm', now(), 1);
        INSERT INTO releases SELECT id, 1, 'sha256:x', 'uid', 1, now(), 1 FROM models;
        """,
    )
    with pytest.raises(runner.MigrationProblem, match="remembers 1 releases"):
        runner.downgrade(database, "base", discard_history=False)
    assert runner.downgrade(database, "base", discard_history=True) == "The schema went from 0002 to nothing."


def test_a_newer_schema_is_lived_with_as_long_as_it_allows(database: URL) -> None:
    _execute(
        database,
        "UPDATE alembic_version SET version_num = '0007';INSERT INTO schema_revisions VALUES ('0007', '0.0.9', now());",
    )
    assert "can live with it" in runner.upgrade(database)
    _execute(database, "UPDATE schema_revisions SET min_app = '9.1.0' WHERE revision = '0007'")
    with pytest.raises(runner.MigrationProblem, match=r"is at 0007, newer than the 0002 .* needs Roadstead 9\.1\.0"):
        runner.upgrade(database)


def test_a_process_refuses_a_schema_that_does_not_fit(empty_database: URL) -> None:
    assert _schema(empty_database) is None
    with pytest.raises(SchemaProblem, match="no schema yet"):
        check_schema(None, app="0.1.0")
    runner.upgrade(empty_database)
    applied = _schema(empty_database)
    assert applied == AppliedSchema(revision="0002", min_app="0.1.0")
    check_schema(applied)
    with pytest.raises(SchemaProblem, match=r"needs Roadstead 0\.1\.0 or newer; this is 0\.0\.9"):
        check_schema(applied, app="0.0.9")
    with pytest.raises(SchemaProblem, match=r"is 0002, Roadstead 0\.10\.0 needs at least 0003"):
        check_schema(applied, app="0.10.0", required="0003")


def test_the_command_takes_plain_addresses_and_explains_itself(empty_database: URL) -> None:
    plain = as_libpq(empty_database)
    assert _command(plain, "upgrade") == (0, "The schema went from nothing to 0002.\n", "")
    assert _command(plain, "current")[1].startswith("The schema is at 0002")
    status, said, complained = _command("postgresql://somebody:secret@127.0.0.1:1/ledger", "upgrade")
    assert (status, said) == (1, "")
    assert complained.startswith("Cannot connect to postgresql://somebody:***@127.0.0.1:1/ledger: ")
    assert "secret" not in complained


@pytest.mark.parametrize("address", ["", "mysql://root@localhost/x", "no address"])
def test_an_address_that_cannot_be_used_is_named_without_repeating_it(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROADSTEAD_DATABASE_URL", address)
    assert main(["current"]) == 1
    assert capsys.readouterr().err.startswith("ROADSTEAD_DATABASE_URL ")
    with pytest.raises(AddressProblem):
        database_url(address)


def test_the_address_may_stand_in_a_file(
    empty_database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "url"
    monkeypatch.delenv("ROADSTEAD_DATABASE_URL", raising=False)
    monkeypatch.setenv("ROADSTEAD_DATABASE_URL_FILE", str(file))
    assert main(["current"]) == 1
    assert capsys.readouterr().err == (
        f"ROADSTEAD_DATABASE_URL_FILE {file} cannot be read: No such file or directory\n"
    )

    file.write_text(as_libpq(empty_database) + "\n")
    assert main(["upgrade"]) == 0

    monkeypatch.setenv("ROADSTEAD_DATABASE_URL", "postgresql://somewhere.else/ledger")
    assert main(["current"]) == 1
    assert "are both set: take one of them away" in capsys.readouterr().err


def _tables(url: URL) -> set[str]:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return set(connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")))


def _execute(url: URL, statements: str) -> None:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql(statements)


def _schema(url: URL) -> AppliedSchema | None:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return read_schema(connection)


def _command(address: str, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "roadstead_migrations", *arguments],
        env={**os.environ, "ROADSTEAD_DATABASE_URL": address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr
