"""What time it is, as the API server has it.

Deletions are stamped by the API server, and statuses and the ledger's rows by whichever operator leads; timers compare
these stamps with the time of now. So there is one clock for all: a machine whose own is wrong is put right by the
``Date`` of every answer. Small differences are let be, for an answer may be some seconds under way.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import structlog

TOLERANCE: Final = timedelta(seconds=30)
"""More than an answer takes."""

_log = structlog.get_logger(__name__)


class ServerClock:
    """Call it for the time in UTC; our own machine's until the API server's is known to be another."""

    def __init__(self, own: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._own = own
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        return self._own() + self._ahead

    def heard(self, date: str | None) -> None:
        """An answer came with this ``Date``; one that cannot be read tells nothing."""
        try:
            told = parsedate_to_datetime(date or "")
        except ValueError:
            return
        if told.tzinfo is None or abs(told - self()) <= TOLERANCE:
            return
        off = told - self._own()
        self._ahead = off if abs(off) > TOLERANCE else timedelta(0)
        _log.warning("clock.differs", behind_seconds=round(off.total_seconds()), why="the API server's time is used")
