"""Open rows become equal to the world: what is gone is closed, what is new is opened, nothing else is touched.

Only the rows of models that changed since the world of the time before are read, where that is known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from sqlalchemy import ColumnElement, insert, select, true, tuple_, update
from sqlalchemy.orm import Session

from roadstead.adapters.postgres.fence import Writer, hold_epoch, lineages
from roadstead.adapters.postgres.schema import IncarnationRow, ModelRow, PlacementRow
from roadstead.domain.model import ModelKey
from roadstead.domain.plan import Incarnation, Placement, World

DELETED: Final = "Deleted"
"""The API server has the object no more."""
REMOVED: Final = "Removed"
"""No cell has the slot any more."""
CHANGED: Final = "Changed"
"""The slot goes on with other figures: as the next row."""

_NAMED_MODELS: Final = 500
"""More than these are not named in a query: reading all of them costs less."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Generic[V]):
    """Ids to close, by reason, and values to open."""

    gone: tuple[int, ...]
    changed: tuple[int, ...]
    new: tuple[V, ...]


def difference(rows: Mapping[K, tuple[int, V]], world: Mapping[K, V]) -> Difference[V]:
    """What separates the open rows (id and value by key) from the world."""
    return Difference(
        gone=tuple(identity for key, (identity, _) in rows.items() if key not in world),
        changed=tuple(identity for key, (identity, value) in rows.items() if key in world and world[key] != value),
        new=tuple(value for key, value in world.items() if key not in rows or rows[key][1] != value),
    )


def changed_models(before: World, world: World) -> frozenset[ModelKey] | None:
    """Whose rows may differ if ``before`` was reconciled; None for anybody's."""
    if world.placements is not None and before.placements is None:
        return None
    keys = {each.key for each in frozenset(before.incarnations) ^ frozenset(world.incarnations)}
    if world.placements is not None and before.placements is not None:
        keys |= {each.model for each in frozenset(before.placements) ^ frozenset(world.placements)}
    return frozenset(keys) if len(keys) <= _NAMED_MODELS else None


def reconcile(session: Session, writer: Writer, world: World, *, only: Collection[ModelKey] | None = None) -> None:
    """One transaction; without a difference nothing is written. With ``only``, the rows of these models alone."""
    hold_epoch(session, writer)
    _incarnations(session, writer, [each for each in world.incarnations if only is None or each.key in only], only)
    if world.placements is not None:
        _placements(session, writer, [each for each in world.placements if only is None or each.model in only], only)


def _of(only: Collection[ModelKey] | None) -> ColumnElement[bool]:
    if only is None:
        return true()
    return tuple_(ModelRow.namespace, ModelRow.name).in_([(key.namespace, key.name) for key in sorted(only)])


def _incarnations(
    session: Session, writer: Writer, wanted: Sequence[Incarnation], only: Collection[ModelKey] | None
) -> None:
    rows = session.execute(
        select(ModelRow.namespace, ModelRow.name, IncarnationRow)
        .join(ModelRow, ModelRow.id == IncarnationRow.model_id)
        .where(ModelRow.installation == writer.installation, IncarnationRow.ended.is_(None), _of(only))
    ).all()
    found = difference(
        {(ModelKey(namespace, name), row.uid): (row.id, row.uid) for namespace, name, row in rows},
        {(each.key, each.uid): each.uid for each in wanted},
    )
    _close(session, writer, IncarnationRow, ids=found.gone, why=DELETED)
    opened = set(found.new)
    new = [each for each in wanted if each.uid in opened]
    if not new:
        return
    ids = lineages(session, writer, (each.key for each in new))
    session.execute(
        insert(IncarnationRow),
        [
            {
                "model_id": ids[each.key],
                "uid": each.uid,
                "created": each.created,
                "started": writer.now,
                "epoch": writer.epoch,
            }
            for each in new
        ],
    )


def _placements(
    session: Session, writer: Writer, wanted: Sequence[Placement], only: Collection[ModelKey] | None
) -> None:
    rows = session.execute(
        select(ModelRow.namespace, ModelRow.name, PlacementRow)
        .join(ModelRow, ModelRow.id == PlacementRow.model_id)
        .where(ModelRow.installation == writer.installation, PlacementRow.ended.is_(None), _of(only))
    ).all()
    stood = [(row.id, _placement(ModelKey(namespace, name), row)) for namespace, name, row in rows]
    found = difference(
        {(each.model, each.slot): (identity, each) for identity, each in stood},
        {(each.model, each.slot): each for each in wanted},
    )
    _close(session, writer, PlacementRow, ids=found.gone, why=REMOVED)
    _close(session, writer, PlacementRow, ids=found.changed, why=CHANGED)
    if not found.new:
        return
    ids = lineages(session, writer, (each.model for each in found.new))
    session.execute(
        insert(PlacementRow),
        [
            {
                "model_id": ids[each.model],
                "slot": each.slot,
                "content": each.content,
                "node": each.node,
                "replicas": each.replicas,
                "memory_bytes": each.memory_bytes,
                "started": writer.now,
                "epoch": writer.epoch,
            }
            for each in found.new
        ],
    )


def _placement(model: ModelKey, placement: PlacementRow) -> Placement:
    return Placement(
        slot=placement.slot,
        model=model,
        content=placement.content,
        node=placement.node,
        replicas=placement.replicas,
        memory_bytes=placement.memory_bytes,
    )


def _close(
    session: Session,
    writer: Writer,
    table: type[IncarnationRow | PlacementRow],
    *,
    ids: Sequence[int],
    why: str,
) -> None:
    if not ids:
        return
    session.execute(
        update(table)
        .where(table.id.in_(ids), table.ended.is_(None), table.epoch <= writer.epoch)
        .values(ended=writer.now, ended_why=why, epoch=writer.epoch)
        .execution_options(synchronize_session=False)
    )
