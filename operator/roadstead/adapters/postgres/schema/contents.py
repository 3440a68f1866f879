"""What engines serve, by hash. Immutable: the database refuses UPDATE, DELETE and TRUNCATE."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from roadstead.adapters.postgres.schema.base import Epoch, Ledger, Moment, Texts


class ContentRow(Ledger):
    """One rung, exactly what its hash covers; names and qualities of variants belong to the release."""

    __tablename__ = "contents"

    hash: Mapped[str] = mapped_column(primary_key=True)
    artifact: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"))
    engine: Mapped[str]
    engine_image: Mapped[str]
    engine_args: Mapped[Texts]
    task: Mapped[str]
    served_name: Mapped[str]
    context_tokens: Mapped[int]
    concurrency: Mapped[int]
    recorded: Mapped[Moment]
    epoch: Mapped[Epoch]
