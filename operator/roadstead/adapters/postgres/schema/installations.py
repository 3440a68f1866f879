"""One row per fleet that writes here; its epoch fences every write.

A writing transaction first raises the epoch to its own, then holds the row shared until it commits. So a leader that
lost its Lease can neither start a write after its successor's first nor finish one beside it.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from roadstead.adapters.postgres.schema.base import Epoch, Ledger, Moment


class InstallationRow(Ledger):
    """A fleet. The database refuses to lower its epoch or to delete it."""

    __tablename__ = "installations"
    __table_args__ = (CheckConstraint("epoch >= 0", name="epoch_not_negative"),)

    installation: Mapped[str] = mapped_column(primary_key=True)
    """A configured id, else the uid of kube-system and the release namespace."""
    epoch: Mapped[Epoch]
    recorded: Mapped[Moment]
