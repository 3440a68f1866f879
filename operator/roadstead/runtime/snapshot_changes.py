"""What is new in a snapshot against the one before: all that the planner's process needs to be sent.

A fleet of thousands is megabytes, and what happens between two turns is a few objects. Whoever applies the changes also
keeps every object that did not change as it was, so that the planner sees at a glance what it has seen before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from roadstead.domain.snapshot import FleetSnapshot

_KEYS: Final[Mapping[str, Callable[[Any], object]]] = {
    "models": lambda model: model.uid,
    "pods": lambda pod: pod.uid,
    "cells": lambda cell: cell.name,
    "pools": lambda pool: pool.name,
}
"""Fields that are tuples of things with a name. Their order means nothing to the planner."""
_NOTHING: Final = object()


@dataclass(frozen=True, slots=True)
class Changes:
    """From one snapshot to the next."""

    whole: Mapping[str, object]
    """Fields that are sent as they are."""
    put: Mapping[str, Mapping[object, object]]
    """By field: entries that are new or other than before."""
    gone: Mapping[str, tuple[object, ...]]


def changes(before: FleetSnapshot | None, after: FleetSnapshot) -> Changes:
    """What ``applied`` needs to make ``after`` of ``before``; of nothing, everything."""
    whole: dict[str, object] = {}
    put: dict[str, Mapping[object, object]] = {}
    gone: dict[str, tuple[object, ...]] = {}
    for field in fields(FleetSnapshot):
        new = getattr(after, field.name)
        old = getattr(before, field.name) if before is not None else _NOTHING
        if new is old:
            continue
        entries = _entries(field.name, new)
        known = _entries(field.name, old) if old is not _NOTHING else None
        if entries is None or known is None:
            if new != old:
                whole[field.name] = new
            continue
        put[field.name] = {key: value for key, value in entries.items() if _differs(known.get(key, _NOTHING), value)}
        gone[field.name] = tuple(key for key in known if key not in entries)
    return Changes(whole=whole, put=put, gone=gone)


def applied(before: FleetSnapshot | None, delta: Changes) -> FleetSnapshot:
    """The snapshot that ``changes`` was asked for, in an order of its own."""
    if before is None:
        return FleetSnapshot(**dict(delta.whole))  # type: ignore[arg-type]
    parts: dict[str, Any] = {field.name: getattr(before, field.name) for field in fields(FleetSnapshot)}
    parts.update(delta.whole)
    for name, put in delta.put.items():
        gone = frozenset(delta.gone[name])
        if put or gone:
            known = _entries(name, parts[name]) or {}
            entries = {key: value for key, value in known.items() if key not in gone} | dict(put)
            parts[name] = tuple(entries.values()) if name in _KEYS else entries
    return FleetSnapshot(**parts)


def _entries(name: str, value: Any) -> Mapping[object, object] | None:  # noqa: ANN401 - any field of a snapshot
    if name in _KEYS:
        return {_KEYS[name](each): each for each in value}
    return value if isinstance(value, Mapping) else None


def _differs(old: object, new: object) -> bool:
    return old is not new and old != new
