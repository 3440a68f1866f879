"""A fleet that is known is not looked at again by every full collection."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from roadstead.runtime import collector
from roadstead.runtime.collector import LongLived


class Thing:
    """May be in a cycle."""

    def __init__(self) -> None:
        self.other: Thing | None = None


@pytest.fixture
def callback(monkeypatch: pytest.MonkeyPatch) -> Iterator[LongLived]:
    noted = LongLived()
    gc.callbacks.append(noted)
    monkeypatch.setattr(collector, "_LONG_SECONDS", 0.0)
    yield noted
    gc.callbacks.remove(noted)
    gc.unfreeze()


def test_what_a_long_full_collection_found_alive_is_not_looked_at_again(callback: LongLived) -> None:
    things = [Thing() for _ in range(1000)]
    gc.collect()
    assert gc.get_freeze_count() >= len(things)
    assert not any(isinstance(each, Thing) for each in gc.get_objects())


def test_a_short_one_leaves_all_as_it_is(callback: LongLived, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_LONG_SECONDS", 60.0)
    before = gc.get_freeze_count()
    gc.collect()
    assert gc.get_freeze_count() == before


def test_garbage_is_freed_as_ever_and_cycles_that_came_later_are_found(callback: LongLived) -> None:
    old = Thing()
    gc.collect()
    gone = weakref.ref(old)
    del old
    assert gone() is None, "by its reference count"
    one, two = Thing(), Thing()
    one.other, two.other = two, one
    gone = weakref.ref(one)
    del one, two
    gc.collect()
    assert gone() is None, "by the collector"
