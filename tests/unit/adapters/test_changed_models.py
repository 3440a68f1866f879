"""Whose rows are read when one world follows another."""

from __future__ import annotations

from datetime import UTC, datetime

from roadstead.adapters.postgres.reconciling import changed_models
from roadstead.domain.model import ModelKey
from roadstead.domain.plan import Incarnation, Placement, World

_MORNING = datetime(2026, 3, 1, 8, tzinfo=UTC)


def _incarnation(name: str, uid: str = "1") -> Incarnation:
    return Incarnation(key=ModelKey("team-a", name), uid=uid, created=_MORNING)


def _placement(name: str, *, replicas: int = 1) -> Placement:
    key = ModelKey("team-a", name)
    return Placement(slot=f"{name}.x", model=key, content="f", node="n", replicas=replicas, memory_bytes=1)


def _named(before: World, world: World) -> set[str] | None:
    keys = changed_models(before, world)
    return None if keys is None else {key.name for key in keys}


_BEFORE = World(incarnations=(_incarnation("a"), _incarnation("b")), placements=(_placement("a"), _placement("b")))


def test_a_model_whose_slot_is_another_than_before_is_read_and_no_other() -> None:
    world = World(incarnations=_BEFORE.incarnations, placements=(_placement("a", replicas=2), _placement("b")))
    assert _named(_BEFORE, world) == {"a"}


def test_a_model_that_is_gone_or_new_or_of_another_uid_is_read() -> None:
    world = World(incarnations=(_incarnation("a", "2"), _incarnation("c")), placements=_BEFORE.placements)
    assert _named(_BEFORE, world) == {"a", "b", "c"}


def test_all_are_read_where_the_placements_of_before_were_not_known() -> None:
    assert _named(World(incarnations=_BEFORE.incarnations, placements=None), _BEFORE) is None


def test_placements_that_are_not_known_now_are_nobodys_change() -> None:
    assert _named(_BEFORE, World(incarnations=_BEFORE.incarnations, placements=None)) == set()


def test_all_are_read_where_too_many_changed_to_name_them() -> None:
    many = tuple(_incarnation(f"m{number}") for number in range(501))
    assert _named(_BEFORE, World(incarnations=many, placements=_BEFORE.placements)) is None
