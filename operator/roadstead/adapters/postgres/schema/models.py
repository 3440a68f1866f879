"""Lineages: what a model is called, for ever. Written once."""

from __future__ import annotations

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from roadstead.adapters.postgres.schema.base import Epoch, Key, Ledger, Moment


class ModelRow(Ledger):
    """A lineage outlives every LocalModel object of its name; releases are numbered within it."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("installation", "namespace", "name"),)

    id: Mapped[Key]
    installation: Mapped[str] = mapped_column(ForeignKey("installations.installation"))
    namespace: Mapped[str]
    name: Mapped[str]
    recorded: Mapped[Moment]
    epoch: Mapped[Epoch]
