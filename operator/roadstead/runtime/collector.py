"""Keeps Python's garbage collector from looking at a whole fleet again and again.

What an operator knows of thousands of models is a million objects that stay for hours and hold no cycles. Each full
collection looked at all of them: 0.5 s for every few changes, twice the time of the turn that it interrupted. So a full
collection that took long is the last that looks at what it found alive. Garbage is freed as ever, by its reference
counts; what is given up is a cycle among such objects that becomes garbage later.
"""

from __future__ import annotations

import gc
from time import perf_counter
from typing import Any, Final

_LONG_SECONDS: Final = 0.05
_FULL: Final = 2


class LongLived:
    """To be among ``gc.callbacks``."""

    def __init__(self) -> None:
        self._began = 0.0

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        if info["generation"] < _FULL:
            return
        if phase == "start":
            self._began = perf_counter()
        elif perf_counter() - self._began > _LONG_SECONDS:
            gc.freeze()


def look_at_no_fleet_twice() -> None:
    """For this process, from now on."""
    gc.callbacks.append(LongLived())
