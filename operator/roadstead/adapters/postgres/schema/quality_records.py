"""What was measured of artifacts' quality. Immutable: the database refuses UPDATE, DELETE and TRUNCATE."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from roadstead.adapters.postgres.schema.base import Epoch, Ledger, Moment


class QualityRecordRow(Ledger):
    """A record as it stood on a LocalModel of this lineage; what it means is said at ``QualityRecord``.

    What somebody edits without giving it another time is the same record, and keeps its first figures here.
    """

    __tablename__ = "quality_records"

    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), primary_key=True, autoincrement=False)
    artifact: Mapped[str] = mapped_column(primary_key=True)
    measured: Mapped[Moment] = mapped_column(primary_key=True)
    quality: Mapped[float]
    divergence: Mapped[float]
    same_top: Mapped[float]
    perplexity: Mapped[float]
    base: Mapped[str]
    base_quality: Mapped[float]
    tool: Mapped[str]
    tool_version: Mapped[str]
    corpus: Mapped[str]
    tokens: Mapped[int] = mapped_column(BigInteger)
    recorded: Mapped[Moment]
    epoch: Mapped[Epoch]
