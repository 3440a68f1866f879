"""Weights by digest. Immutable: the database refuses UPDATE, DELETE and TRUNCATE."""

from __future__ import annotations

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from roadstead.adapters.postgres.schema.base import Bytes, Document, Epoch, Ledger, Moment


class ArtifactRow(Ledger):
    """The files of a variant, as the header described them when the digest was first met."""

    __tablename__ = "artifacts"
    __table_args__ = (CheckConstraint("digest ~ '^sha256:[0-9a-f]{64}$'", name="digest_is_sha256"),)

    digest: Mapped[str] = mapped_column(primary_key=True)
    bytes: Mapped[Bytes]
    format: Mapped[str]
    architecture: Mapped[str]
    quantization: Mapped[str]
    licence: Mapped[str]
    origin: Mapped[str]
    """The source it first came from."""
    facts: Mapped[Document]
    """The header's facts, whole."""
    recorded: Mapped[Moment]
    epoch: Mapped[Epoch]
