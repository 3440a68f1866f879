"""The time of the API server, on a machine whose own clock is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from roadstead.adapters.kube.server_clock import ServerClock

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Machine:
    """Its own clock."""

    def __init__(self, off: timedelta = timedelta(0)) -> None:
        self.now = NOW + off

    def __call__(self) -> datetime:
        return self.now


def date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


@pytest.mark.parametrize("off", [HOUR, -HOUR])
def test_a_clock_that_is_an_hour_off_is_put_right_by_the_first_answer(off: timedelta) -> None:
    machine = Machine(off)
    clock = ServerClock(machine)

    clock.heard(date(NOW))
    machine.now += timedelta(seconds=90)

    assert clock() == NOW + timedelta(seconds=90)


def test_an_answer_that_was_some_seconds_under_way_changes_nothing() -> None:
    clock = ServerClock(Machine())

    clock.heard(date(NOW - timedelta(seconds=25)))

    assert clock() == NOW


def test_a_clock_that_was_set_right_is_believed_again() -> None:
    machine = Machine(HOUR)
    clock = ServerClock(machine)
    clock.heard(date(NOW))

    machine.now = NOW
    clock.heard(date(NOW))

    assert clock() == NOW


@pytest.mark.parametrize("told", [None, "", "soon", "Sun, 01 Mar 2026 12:00:00"])
def test_what_is_no_date_tells_nothing(told: str | None) -> None:
    machine = Machine(HOUR)
    clock = ServerClock(machine)

    clock.heard(told)

    assert clock() == machine.now
