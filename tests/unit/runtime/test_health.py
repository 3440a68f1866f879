"""Health is judged by what happened, not by whether a socket answers."""

from __future__ import annotations

from roadstead.runtime.health import Vitals


def vitals(*, leading: bool = True, last_turn: float | None = 100.0, watch: float = 1.0) -> Vitals:
    return Vitals(
        leading=lambda: leading,
        led_since=lambda: 90.0,
        last_turn=lambda: last_turn,
        watch_ages=lambda: {"localmodels": watch},
        synced=lambda: True,
    )


def test_a_leader_whose_loop_turns_is_healthy() -> None:
    assert vitals().ailments(now=110.0) == ()


def test_a_leader_whose_loop_hangs_is_not() -> None:
    assert vitals().ailments(now=400.0) == ("leading, but no turn of the loop has ended for 300 s",)


def test_a_leader_that_never_turned_is_judged_from_when_it_began_to_lead() -> None:
    assert vitals(last_turn=None).ailments(now=400.0) == ("leading, but no turn of the loop has ended for 310 s",)


def test_a_standby_need_not_turn() -> None:
    assert vitals(leading=False, last_turn=None).ailments(now=10_000.0) == ()


def test_a_deaf_watch_is_named() -> None:
    assert vitals(watch=300.0).ailments(now=110.0) == ("the watch of localmodels has been silent for 300 s",)


def test_one_that_waits_for_an_api_server_that_is_away_is_healthy() -> None:
    assert vitals(leading=False, last_turn=None, watch=10_000.0).ailments(now=10_000.0) == ()
