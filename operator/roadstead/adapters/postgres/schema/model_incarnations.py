"""LocalModel objects, from when each was first seen until it was seen to be gone. Closed once, never changed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from roadstead.adapters.postgres.schema.base import Epoch, Key, Ledger, Moment


class IncarnationRow(Ledger):
    """One LocalModel object, open while the API server has it.

    The same uid gets a second row when it comes back after having been closed (an API server restored from a backup):
    a closed row is never opened again, because history is not rewritten.
    """

    __tablename__ = "model_incarnations"
    __table_args__ = (
        CheckConstraint("(ended IS NULL) = (ended_why IS NULL)", name="closed_with_a_reason"),
        Index(
            "uq_model_incarnations_open",
            "model_id",
            "uid",
            unique=True,
            postgresql_where=text("ended IS NULL"),
        ),
    )

    id: Mapped[Key]
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    uid: Mapped[str]
    created: Mapped[Moment]
    """``metadata.creationTimestamp``."""
    started: Mapped[Moment]
    """When the leader first saw it."""
    ended: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """When the leader first saw that it was gone."""
    ended_why: Mapped[str | None]
    epoch: Mapped[Epoch]
