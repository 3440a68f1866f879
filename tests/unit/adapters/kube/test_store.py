"""Lists, events and answers arrive in any order; the newest version wins and nothing deleted comes back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from roadstead.adapters.kube.store import Store


class Watcher:
    """A store of values with what it poked for."""

    def __init__(self) -> None:
        self.pokes: list[str] = []
        self.store: Store[str] = Store(
            "Thing", parse=lambda obj: obj["value"], relevant=lambda value: value.upper(), poke=self.pokes.append
        )

    def list(self, objects: Iterable[dict[str, Any]], version: str) -> int:
        return self.store.replace([self.store.read(obj) for obj in objects], version)

    def known(self) -> dict[str, str]:
        return {key[1]: stored.value for key, stored in self.store._objects.items()}


@pytest.fixture
def watcher() -> Watcher:
    fresh = Watcher()
    fresh.list([thing("a", 5)], "10")
    fresh.pokes.clear()
    return fresh


def thing(name: str, version: int, value: str = "x", uid: str = "u1") -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version), "uid": uid}, "value": value}


def test_the_first_list_makes_it_synced_and_pokes_once() -> None:
    fresh = Watcher()

    fresh.list([thing("a", 1), thing("b", 2)], "3")

    assert fresh.store.synced
    assert fresh.pokes == ["Thing listed"]


def test_an_older_event_does_not_replace_a_newer_object(watcher: Watcher) -> None:
    watcher.store.put(thing("a", 12, "new"))
    watcher.store.put(thing("a", 11, "old"))

    assert watcher.known() == {"a": "new"}


def test_what_a_list_does_not_hold_is_dropped_and_told(watcher: Watcher) -> None:
    assert watcher.list([], "20") == 1

    assert watcher.known() == {}
    assert watcher.pokes == ["Thing a gone"]


def test_what_was_written_after_the_list_was_made_stays(watcher: Watcher) -> None:
    watcher.store.put(thing("b", 25))

    watcher.list([thing("a", 5)], "20")

    assert set(watcher.known()) == {"a", "b"}


def test_an_event_from_before_the_list_does_not_bring_back_what_the_list_did_not_hold(watcher: Watcher) -> None:
    watcher.store.put(thing("b", 9))

    assert set(watcher.known()) == {"a"}


def test_a_late_answer_does_not_bring_back_what_was_deleted(watcher: Watcher) -> None:
    watcher.store.drop(thing("a", 13))
    watcher.store.put(thing("a", 12))

    assert watcher.known() == {}


def test_an_old_list_does_not_bring_back_what_we_deleted(watcher: Watcher) -> None:
    watcher.store.forget(("", "a"))

    watcher.list([thing("a", 5)], "11")

    assert watcher.known() == {}


def test_a_new_object_of_the_same_name_is_another(watcher: Watcher) -> None:
    watcher.store.drop(thing("a", 13))
    watcher.store.put(thing("a", 14, uid="u2"))
    watcher.store.drop(thing("a", 13))

    assert watcher.known() == {"a": "x"}
    assert watcher.pokes == ["Thing a gone", "Thing a new"]


def test_a_change_that_does_not_matter_is_kept_and_pokes_nobody(watcher: Watcher) -> None:
    watcher.store.put(thing("a", 11, "X"))

    assert watcher.known() == {"a": "X"}
    assert watcher.pokes == []


def test_a_change_that_matters_pokes(watcher: Watcher) -> None:
    watcher.store.put(thing("a", 11, "y"))

    assert watcher.pokes == ["Thing a changed"]


def test_of_another_history_the_list_alone_counts(watcher: Watcher) -> None:
    watcher.store.put(thing("late", 900))
    watcher.store.drop(thing("gone", 950))
    watcher.pokes.clear()
    assert watcher.store.latest == 950

    watcher.store.begin_anew()
    watcher.list([thing("a", 3, "old"), thing("gone", 4)], "7")

    assert watcher.known() == {"a": "old", "gone": "x"}
    assert set(watcher.pokes) == {"Thing a changed", "Thing late gone", "Thing gone new"}
    watcher.store.put(thing("late", 8))
    assert "late" in watcher.known(), "what comes after counts as new"
