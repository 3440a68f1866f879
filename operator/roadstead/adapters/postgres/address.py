"""Where Postgres is and how patiently it is spoken to.

One address serves the operator and the migrations; both take it from ``ROADSTEAD_DATABASE_URL`` as people write it
(``postgresql://``, ``postgres://`` or ``postgresql+psycopg://``) and speak psycopg 3. Passwords never reach a message.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy
from sqlalchemy.engine import URL, make_url

DATABASE_URL_VARIABLE: Final = "ROADSTEAD_DATABASE_URL"
CONNECT_SECONDS: Final = 3
STATEMENT_SECONDS: Final = 5
_SCHEMES: Final = ("postgresql", "postgres", "postgresql+psycopg")


class AddressProblem(ValueError):
    """The address of the database cannot be used. The message never repeats it: it may hold a password."""


def database_url(text: str) -> URL:
    """The address with the driver this product uses."""
    if not text:
        raise AddressProblem(f"{DATABASE_URL_VARIABLE} is not set: it names the database of the ledger")
    try:
        url = make_url(text)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise AddressProblem(
            f"{DATABASE_URL_VARIABLE} is not an address such as postgresql://user@host/name"
        ) from error
    if url.drivername not in _SCHEMES:
        raise AddressProblem(f"{DATABASE_URL_VARIABLE} starts with {url.drivername}://, only postgresql:// is served")
    return url.set(drivername="postgresql+psycopg")


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
