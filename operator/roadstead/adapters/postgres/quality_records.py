"""The history of quality records: each is written once, whatever becomes of the annotation that it stood in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from roadstead.adapters.postgres.fence import Writer, hold_epoch, lineages
from roadstead.adapters.postgres.schema import ModelRow, QualityRecordRow
from roadstead.domain.measured import Shown
from roadstead.domain.model import ModelKey
from roadstead.domain.quality import QualityRecord

RecordOf = tuple[ModelKey, QualityRecord]


@dataclass(slots=True, kw_only=True)
class KnownRecords:
    """What needs no writing."""

    written: set[tuple[ModelKey, str, datetime]]
    """Lineage, artifact and time: what tells records apart."""
    compared: dict[ModelKey, tuple[QualityRecord, ...]] = field(default_factory=dict)
    """Of each model the records that were looked at last."""

    def new_in(self, shown: Shown) -> list[RecordOf]:
        """Those that were never written."""
        return [
            (model, record)
            for model, records in shown.quality.items()
            if self.compared.get(model) is not records
            for record in records
            if (model, record.artifact, record.measured) not in self.written
        ]

    def follow(self, shown: Shown, written: Sequence[RecordOf]) -> None:
        """Take over what was written, and what it was compared with."""
        self.written.update((model, record.artifact, record.measured) for model, record in written)
        self.compared = dict(shown.quality)


def read_known_records(session: Session, writer: Writer) -> KnownRecords:
    """What this installation has written."""
    rows = session.execute(
        select(ModelRow.namespace, ModelRow.name, QualityRecordRow.artifact, QualityRecordRow.measured)
        .join(ModelRow, ModelRow.id == QualityRecordRow.model_id)
        .where(ModelRow.installation == writer.installation)
    )
    return KnownRecords(written={(ModelKey(namespace, name), artifact, at) for namespace, name, artifact, at in rows})


def write_records(session: Session, writer: Writer, new: Sequence[RecordOf]) -> None:
    """One transaction."""
    hold_epoch(session, writer)
    ids = lineages(session, writer, (model for model, _ in new))
    session.execute(
        postgresql.insert(QualityRecordRow).on_conflict_do_nothing(),
        [
            {
                "model_id": ids[model],
                "artifact": record.artifact,
                "measured": record.measured,
                "quality": record.quality,
                "divergence": record.divergence,
                "same_top": record.same_top,
                "perplexity": record.perplexity,
                "base": record.base,
                "base_quality": record.base_quality,
                "tool": record.tool,
                "tool_version": record.tool_version,
                "corpus": record.corpus,
                "tokens": record.tokens,
                "recorded": writer.now,
                "epoch": writer.epoch,
            }
            for model, record in new
        ],
    )
