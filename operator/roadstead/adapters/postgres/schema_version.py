"""Whether a program and a ledger's schema can live with each other.

Two rules: a process refuses to start when the schema is older than it needs, or when a revision that was applied says
that it needs a newer process (``min_app``). Everything else runs, so an older product starts again after a rollback
without anyone touching the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from sqlalchemy import Connection, select, text

from roadstead.adapters.postgres.schema import SchemaRevisionRow

REQUIRED_REVISION: Final = "0002"
"""The oldest schema this program works with. Revisions are numbers in order."""


class SchemaProblem(Exception):
    """This program and this schema do not fit; the message has both versions and the way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedSchema:
    """What a database says about itself."""

    revision: str
    min_app: str


def read_schema(connection: Connection) -> AppliedSchema | None:
    """The schema in force; None where no migration ever ran."""
    if connection.scalar(
        text("SELECT to_regclass('alembic_version') IS NULL OR to_regclass('schema_revisions') IS NULL")
    ):
        return None
    revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if revision is None:
        return None
    oldest = connection.scalars(select(SchemaRevisionRow.min_app)).all()
    return AppliedSchema(revision=revision, min_app=max(oldest, key=_comparable, default="0"))


def check_schema(applied: AppliedSchema | None, *, app: str | None = None, required: str = REQUIRED_REVISION) -> None:
    """Raise :class:`SchemaProblem` unless a program of version ``app`` (ours by default) can work with ``applied``."""
    app = app or product_version()
    if applied is None:
        raise SchemaProblem(
            f"The ledger has no schema yet, Roadstead {app} needs {required}:"
            " run python -m roadstead_migrations upgrade"
        )
    if int(applied.revision) < int(required):
        raise SchemaProblem(
            f"The ledger's schema is {applied.revision}, Roadstead {app} needs at least {required}:"
            " run python -m roadstead_migrations upgrade"
        )
    if not fits(applied, app=app):
        raise SchemaProblem(
            f"The ledger's schema is {applied.revision}, which needs Roadstead {applied.min_app} or newer;"
            f" this is {app}"
        )


def fits(applied: AppliedSchema, *, app: str) -> bool:
    """Whether a program of this version may work with the schema, new as it may be."""
    return _comparable(app) >= _comparable(applied.min_app)


def product_version() -> str:
    """The version this process was installed as."""
    return version("roadstead")


def _comparable(written: str) -> tuple[int, ...]:
    """``0.10.2rc1`` as ``(0, 10, 2)``: a release candidate counts as its release."""
    numbers: list[int] = []
    for part in written.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
