"""Progress is one rewritten line on a terminal and a few whole lines elsewhere."""

from __future__ import annotations

import io

import pytest

from roadstead.embedded.progress import Progress, duration, seconds_left


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_off_a_terminal_a_step_speaks_only_now_and_then() -> None:
    output, clock = io.StringIO(), Clock()
    progress = Progress(output, clock)
    for clock.now in range(40):
        progress.update(f"at {clock.now}")
    assert output.getvalue().splitlines() == ["[   0 s] at 0", "[  15 s] at 15", "[  30 s] at 30"]


def test_on_a_terminal_the_last_line_is_rewritten_and_never_left_over() -> None:
    output = Terminal()
    progress = Progress(output, Clock())
    progress.update("half")
    progress.say("done")
    assert output.getvalue() == "\r\x1b[2K[   0 s] half\r\x1b[2K[   0 s] done\n"


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59.9, "59 s"), (185, "3m05s")])
def test_durations_are_short(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_time_left_is_only_told_once_enough_is_done() -> None:
    assert seconds_left(10, done=1, total=1000) is None
    assert seconds_left(30, done=250, total=1000) == 90
