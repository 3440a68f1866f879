"""Numbered sets of contents. Immutable: the database refuses UPDATE, DELETE and TRUNCATE; no number is reused."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from roadstead.adapters.postgres.schema.base import Epoch, Ledger, Moment


class ReleaseRow(Ledger):
    """A release of a lineage. The same set of contents is the same release, whenever it comes back."""

    __tablename__ = "releases"
    __table_args__ = (
        UniqueConstraint("model_id", "digest"),
        CheckConstraint("number > 0", name="number_positive"),
    )

    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str]
    """Over the hashes of its contents."""
    uid: Mapped[str]
    """The LocalModel object that asked for it first."""
    generation: Mapped[int] = mapped_column(BigInteger)
    """``metadata.generation`` of that object at the time."""
    recorded: Mapped[Moment]
    epoch: Mapped[Epoch]


class ReleaseContentRow(Ledger):
    """One content of a release, with what the LocalModel called it when the release was made."""

    __tablename__ = "release_contents"
    __table_args__ = (ForeignKeyConstraint(["model_id", "number"], ["releases.model_id", "releases.number"]),)

    model_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Place in the ladder as written, from 0."""
    content: Mapped[str] = mapped_column(ForeignKey("contents.hash"))
    variant: Mapped[str]
    source: Mapped[str]
    quality: Mapped[float | None]
