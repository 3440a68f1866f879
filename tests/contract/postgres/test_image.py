"""The image `postgres` keeps its data over a release's life, and takes the password of the next one."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from roadstead.embedded import drop_root
from roadstead.embedded.postgres import Postgres
from tests.fixtures.free_ports import free_port
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract

SCRIPT = Path(__file__).resolve().parents[3] / "images/postgres/postgres.py"


def carried_out(function: str, data: Path, password_file: Path) -> None:
    """A function of the entrypoint, as a user that Postgres puts up with."""
    program = (
        "import runpy, sys; from pathlib import Path; "
        "runpy.run_path(sys.argv[1])[sys.argv[2]](Path(sys.argv[3]), password_file=Path(sys.argv[4]))"
    )
    subprocess.run(
        [sys.executable, drop_root.__file__, sys.executable, "-c", program, SCRIPT, function, data, password_file],
        check=True,
        timeout=60,
    )


async def opens(data: Path, password: str) -> bool:
    """Whether the cluster, once it is served, takes this password."""
    server = Postgres(data=data, port=free_port(), password_file=data, durable=False)
    process = await asyncio.create_subprocess_exec(*server.spec().command, stderr=asyncio.subprocess.DEVNULL)
    answers: list[bool] = []

    def answered() -> bool:
        assert process.returncode is None, "the server ended"
        try:
            psycopg.connect(
                host="127.0.0.1", port=server.port, user="roadstead", password=password, dbname="roadstead"
            ).close()
        except psycopg.OperationalError as error:
            answers.extend([False] if "password authentication failed" in str(error) else [])
        else:
            answers.append(True)
        return bool(answers)

    try:
        await until(answered, "the server answers", seconds=30)
    finally:
        process.send_signal(signal.SIGINT)
        await process.wait()
    return answers[0]


async def test_a_kept_volume_opens_with_the_next_releases_password(tmp_path: Path) -> None:
    data, password_file = tmp_path / "postgres", tmp_path / "password"
    first, second = "first", "it's another"
    password_file.write_text(first)
    carried_out("initialise", data, password_file)
    assert await opens(data, first)
    assert not await opens(data, second)

    password_file.write_text(f"{second}\n")
    carried_out("take_password", data, password_file)

    assert await opens(data, second)
    assert not await opens(data, first)
