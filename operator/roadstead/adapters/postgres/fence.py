"""What every write does first: hold the epoch, then find the lineages it is about.

Once the epoch is held nobody with a higher one has written, and nobody will have until the transaction ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, tuple_
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from roadstead.adapters.postgres.schema import InstallationRow, ModelRow
from roadstead.domain.model import ModelKey
from roadstead.ports import FencedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Who writes, and when."""

    installation: str
    epoch: int
    now: datetime


def hold_epoch(session: Session, writer: Writer) -> None:
    """Raise the installation's epoch to the writer's and keep it there until the transaction ends.

    The lock is shared, so writers of one epoch do not wait for each other; a successor's first write waits for them.
    Raises :class:`FencedError` if a higher epoch has written here.
    """
    epoch_of = select(InstallationRow.epoch).where(InstallationRow.installation == writer.installation)
    seen = session.scalar(epoch_of)
    if seen is None or seen < writer.epoch:
        session.execute(
            postgresql.insert(InstallationRow)
            .values(installation=writer.installation, epoch=writer.epoch, recorded=writer.now)
            .on_conflict_do_update(
                index_elements=[InstallationRow.installation],
                set_={"epoch": writer.epoch},
                where=InstallationRow.epoch < writer.epoch,
            )
        )
    held = session.scalars(epoch_of.with_for_update(read=True)).one()
    if held > writer.epoch:
        raise FencedError(
            f"the ledger of {writer.installation} was written under epoch {held}, this is {writer.epoch}", epoch=held
        )


def lineages(session: Session, writer: Writer, keys: Iterable[ModelKey]) -> dict[ModelKey, int]:
    """Ids of the lineages, those that are new created. Call it under :func:`hold_epoch`."""
    wanted = sorted(set(keys))
    found = _known_lineages(session, writer, wanted)
    missing = [key for key in wanted if key not in found]
    if not missing:
        return found
    statement = postgresql.insert(ModelRow).on_conflict_do_nothing()
    session.execute(
        statement,
        [
            {
                "installation": writer.installation,
                "namespace": key.namespace,
                "name": key.name,
                "recorded": writer.now,
                "epoch": writer.epoch,
            }
            for key in missing
        ],
    )
    return found | _known_lineages(session, writer, missing)


def _known_lineages(session: Session, writer: Writer, keys: list[ModelKey]) -> dict[ModelKey, int]:
    if not keys:
        return {}
    rows = session.execute(
        select(ModelRow.namespace, ModelRow.name, ModelRow.id).where(
            ModelRow.installation == writer.installation,
            tuple_(ModelRow.namespace, ModelRow.name).in_([tuple(key) for key in keys]),
        )
    )
    return {ModelKey(namespace, name): identity for namespace, name, identity in rows}
