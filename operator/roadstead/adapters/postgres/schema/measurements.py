"""What engines showed on nodes: memory and speeds, from when to when. Closed once, never changed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from roadstead.adapters.postgres.schema.base import Bytes, Epoch, Key, Ledger, Moment, Texts


class MeasurementRow(Ledger):
    """A content on a node; figures that have moved are another row.

    ``content`` is no foreign key, as in ``placements``. Artifact and engine image are columns of ``contents``, whose
    hash covers them.
    """

    __tablename__ = "measurements"
    __table_args__ = (
        CheckConstraint("(ended IS NULL) = (ended_why IS NULL)", name="closed_with_a_reason"),
        Index(
            "uq_measurements_open",
            "installation",
            "node",
            "content",
            unique=True,
            postgresql_where=text("ended IS NULL"),
        ),
    )

    id: Mapped[Key]
    installation: Mapped[str] = mapped_column(ForeignKey("installations.installation"))
    node: Mapped[str]
    content: Mapped[str] = mapped_column(index=True)
    memory_bytes: Mapped[Bytes | None]
    """Resident, of the engine. Null here and below: not told."""
    tokens_per_second: Mapped[float | None]
    """Of one stream."""
    first_token_seconds: Mapped[float | None]
    """Of a prompt of 1,000 tokens, from the speed that prompts were seen to be read at."""
    cores: Mapped[int]
    """Of the node, when the row was opened. The figures say little without the machine, and the node may be gone."""
    accelerators: Mapped[Texts]
    """Product names, one for each accelerator of the node, sorted."""
    started: Mapped[Moment]
    """When the leader first saw the figures."""
    ended: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """When it saw that they had moved, or that the node tells of them no more. Null: they hold."""
    ended_why: Mapped[str | None]
    epoch: Mapped[Epoch]
