"""Which migrations were applied, and the oldest product version that can live with each."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from roadstead.adapters.postgres.schema.base import Ledger, Moment


class SchemaRevisionRow(Ledger):
    """Written by the migration itself, in its own transaction."""

    __tablename__ = "schema_revisions"

    revision: Mapped[str] = mapped_column(primary_key=True)
    min_app: Mapped[str]
    """A process older than this refuses to start."""
    applied: Mapped[Moment]
