"""Slots that existed: where, what, how many, from when to when. Closed once, never changed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from roadstead.adapters.postgres.schema.base import Bytes, Epoch, Key, Ledger, Moment


class PlacementRow(Ledger):
    """One slot as it stood; another number of replicas or another estimate is another row.

    ``content`` is no foreign key: a slot that outlived a ledger restored from an older backup is still recorded.
    """

    __tablename__ = "placements"
    __table_args__ = (
        CheckConstraint("(ended IS NULL) = (ended_why IS NULL)", name="closed_with_a_reason"),
        Index(
            "uq_placements_open",
            "model_id",
            "slot",
            unique=True,
            postgresql_where=text("ended IS NULL"),
        ),
    )

    id: Mapped[Key]
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    slot: Mapped[str]
    content: Mapped[str]
    node: Mapped[str]
    replicas: Mapped[int]
    memory_bytes: Mapped[Bytes]
    """What each replica takes a lease for."""
    started: Mapped[Moment]
    ended: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended_why: Mapped[str | None]
    epoch: Mapped[Epoch]
