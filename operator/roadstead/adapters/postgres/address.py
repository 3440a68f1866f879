"""Where Postgres is and how patiently it is spoken to.

One address serves the operator and the migrations; both take it as people write it (``postgresql://``, ``postgres://``
or ``postgresql+psycopg://``) from ``ROADSTEAD_DATABASE_URL``, or from the file that ``ROADSTEAD_DATABASE_URL_FILE``
names, and speak psycopg 3. Passwords never reach a message.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import sqlalchemy
from sqlalchemy.engine import URL, make_url

DATABASE_URL_VARIABLE: Final = "ROADSTEAD_DATABASE_URL"
DATABASE_URL_FILE_VARIABLE: Final = "ROADSTEAD_DATABASE_URL_FILE"
CONNECT_SECONDS: Final = 3
STATEMENT_SECONDS: Final = 5
_SCHEMES: Final = ("postgresql", "postgres", "postgresql+psycopg")


class AddressProblem(ValueError):
    """The address of the database cannot be used. The message never repeats it: it may hold a password."""


def database_address(*, url: str, file: Path | None) -> Callable[[], URL]:
    """Where Postgres is, by exactly one of the two.

    A file (a mounted Secret) is read again at each call, so that a password that was changed is found. Raises
    :class:`AddressProblem`, also when called.
    """
    if url and file is not None:
        raise AddressProblem(
            f"{DATABASE_URL_VARIABLE} and {DATABASE_URL_FILE_VARIABLE} are both set: take one of them away"
        )
    if file is not None:
        return lambda: _in_file(file)
    address = database_url(url)
    return lambda: address


def database_url(text: str, *, named: str = DATABASE_URL_VARIABLE) -> URL:
    """The address with the driver this product uses; ``named`` says where it was written."""
    if not text:
        raise AddressProblem(f"{named} is not set: it names the database of the ledger")
    try:
        url = make_url(text)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise AddressProblem(f"{named} is not an address such as postgresql://user@host/name") from error
    if url.drivername not in _SCHEMES:
        raise AddressProblem(f"{named} starts with {url.drivername}://, only postgresql:// is served")
    return url.set(drivername="postgresql+psycopg")


def _in_file(file: Path) -> URL:
    named = f"{DATABASE_URL_FILE_VARIABLE} {file}"
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AddressProblem(
            f"{named} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}"
        ) from error
    if not text:
        raise AddressProblem(f"{named} is empty: it holds the address of the ledger's database")
    return database_url(text, named=named)


def spoken(url: URL) -> str:
    """The address as it may appear in a message."""
    return url.render_as_string(hide_password=True).replace("postgresql+psycopg://", "postgresql://", 1)


def connection_arguments(*, application: str, lock_seconds: int, statement_seconds: int) -> dict[str, str | int]:
    """What libpq is told: short waits, keepalives, and only a server that can be written to."""
    options = (
        f"-c statement_timeout={statement_seconds * 1000} -c lock_timeout={lock_seconds * 1000}"
        " -c idle_in_transaction_session_timeout=15000 -c timezone=UTC"
    )
    return {
        "application_name": application,
        "connect_timeout": CONNECT_SECONDS,
        "options": options,
        "target_session_attrs": "read-write",
        "keepalives_idle": 10,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
