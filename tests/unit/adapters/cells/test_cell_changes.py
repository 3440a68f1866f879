"""A cell that is told by its changes is, to whoever follows it, the same as one that is told whole."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadstead.adapters.cells.observed import ToldCell
from roadstead.ports import DoorError
from roadstead_worker.agent.cell_changes import PublishedCell
from roadstead_worker.contract import ApplicationState, CellState

NAMES = ("a", "b", "c", "d")
statuses = st.sampled_from(["RUNNING", "DEPLOYING", "DELETING"])
cells = st.dictionaries(st.sampled_from(NAMES), statuses)


def a_cell(applications: dict[str, str], *, epoch: int = 1) -> CellState:
    return CellState(
        digest="",
        epoch=epoch,
        cell="cell-1",
        base="base",
        reachable=True,
        nodes=("node-a",),
        applications=tuple(
            ApplicationState(name=name, status=status, config={"name": name, "args": {"of": [1, None, "ü"]}})
            for name, status in sorted(applications.items())
        ),
    )


def read(published: PublishedCell, known: ToldCell | None, *, changes: bool = True) -> tuple[CellState, ToldCell]:
    """What is told to somebody who knows this, and what they know then."""
    body = published.body(after=known.digest if known is not None else "", changes=changes)
    state = CellState.model_validate_json(body)
    return state, ToldCell.of(state, known)


def publishing(*states: CellState) -> PublishedCell:
    async def made() -> PublishedCell:
        published = PublishedCell()
        for state in states:
            published.publish(state)
        return published

    return asyncio.run(made())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(cells, st.integers(1, 2), st.booleans()), min_size=1, max_size=12))
def test_who_follows_by_changes_knows_what_others_know(history: list[tuple[dict[str, str], int, bool]]) -> None:
    published = publishing()
    known: ToldCell | None = None
    for applications, epoch, asks in history:
        published.publish(a_cell(applications, epoch=epoch))
        if asks:
            _, known = read(published, known)
            assert known == read(published, None, changes=False)[1]


def test_only_what_became_other_is_told() -> None:
    published = publishing(a_cell(dict.fromkeys(NAMES, "RUNNING")))
    whole, known = read(published, None)
    assert (len(whole.applications), whole.since) == (4, "")

    published.publish(a_cell({"a": "RUNNING", "b": "DEPLOYING", "d": "RUNNING"}))
    state, now = read(published, known)
    assert [each.name for each in state.applications] == ["b"]
    assert state.gone == ("c",)
    assert [each.name for each in now.applications] == ["a", "b", "d"]


def test_who_knows_all_is_told_nothing_and_keeps_it() -> None:
    published = publishing(a_cell(dict.fromkeys(NAMES, "RUNNING")))
    _, known = read(published, None)
    state, again = read(published, known)
    assert (state.applications, state.gone) == ((), ())
    assert again is known


def test_who_knows_a_state_that_is_long_forgotten_or_of_another_process_is_told_everything() -> None:
    published = publishing(a_cell({"a": "RUNNING"}))
    _, known = read(published, None)
    for epoch in range(2, 40):
        published.publish(a_cell({"a": "RUNNING"}, epoch=epoch))
    assert read(published, known)[0].since == ""
    assert read(publishing(a_cell({"b": "RUNNING"})), known)[0].since == ""


def test_who_asks_without_changes_is_told_everything() -> None:
    """An operator of an earlier version."""
    published = publishing(a_cell({"a": "RUNNING"}))
    _, known = read(published, None)
    published.publish(a_cell({"a": "RUNNING", "b": "RUNNING"}))
    state, _ = read(published, known, changes=False)
    assert (state.since, [each.name for each in state.applications]) == ("", ["a", "b"])


def test_changes_since_a_state_that_is_not_known_are_refused_rather_than_taken_for_everything() -> None:
    changed = a_cell({"a": "RUNNING"}).model_copy(update={"since": "sha256:unknown"})
    _, known = read(publishing(a_cell({"b": "RUNNING"})), None)
    for before in (None, known):
        with pytest.raises(DoorError):
            ToldCell.of(changed, before)
