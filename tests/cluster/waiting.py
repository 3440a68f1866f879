"""Waiting for a condition of the cluster, with a deadline and words for when it does not come."""

from __future__ import annotations

import time
from collections.abc import Callable

_POLL_SECONDS = 0.5


def until(
    condition: Callable[[], object], what: str, *, seconds: float, tell: Callable[[], object] | None = None
) -> float:
    """Wait until the condition holds; the seconds it took. After ``seconds`` fail with what ``tell`` says then."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"not after {seconds:.0f} s: {what}{f'; now: {tell()}' if tell else ''}"
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - began
