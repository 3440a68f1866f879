"""Tells a person what is going on during steps that take longer than a breath.

On a terminal the current step is one line that is rewritten; anywhere else (CI, a log file) each line stands, and a
running step speaks only every few seconds, so that a log stays readable. Nothing is drawn beyond that: the same lines
serve a screen reader and a CI log.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

_CLEAR_LINE = "\r\x1b[2K"
_QUIET_SECONDS = 15.0


@dataclass(slots=True)
class Progress:
    """Lines for a person; not thread-safe, one owner."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)
    _transient: bool = field(default=False, init=False)
    _spoke: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def live(self) -> bool:
        """Whether the stream is a terminal whose last line can be rewritten."""
        return self.stream.isatty()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._erase()
        self.stream.write(f"{self._elapsed()} {text}\n")
        self.stream.flush()
        self._spoke = self.clock()

    def update(self, text: str) -> None:
        """Show what a running step is at; off a terminal only if nothing was said for a while."""
        if self.live:
            self.stream.write(f"{_CLEAR_LINE}{self._elapsed()} {text}")
            self.stream.flush()
            self._transient = True
        elif self.clock() - self._spoke >= _QUIET_SECONDS:
            self.say(text)

    def finish(self) -> None:
        """Leave no half-written line behind."""
        self._erase()
        self.stream.flush()

    def _erase(self) -> None:
        if self._transient:
            self.stream.write(_CLEAR_LINE)
            self._transient = False

    def _elapsed(self) -> str:
        return f"[{duration(self.clock() - self.started):>6}]"


def duration(seconds: float) -> str:
    """Words for a time: `7 s`, `3m05s`."""
    whole = int(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60}m{whole % 60:02}s"


def seconds_left(elapsed_seconds: float, *, done: int, total: int) -> float | None:
    """Extrapolate from the share that is done; None while too little is done to say."""
    if total <= 0 or done <= 0 or done * 50 < total:
        return None
    return max(elapsed_seconds * (total - done) / done, 0.0)
