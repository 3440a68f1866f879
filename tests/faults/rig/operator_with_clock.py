"""The operator on a machine whose wall clock is wrong: ``CLOCK_OFF_SECONDS`` ahead of ours, or behind if negative.

Run as ``python -m tests.faults.rig.operator_with_clock``. Only the product's own modules are told the wrong time, in
which they ask ``datetime.now``; what they measure by the monotonic clock is right, as on a real machine.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta, tzinfo
from typing import Final

from roadstead.runtime.__main__ import main

OFF_SECONDS: Final = "CLOCK_OFF_SECONDS"


class WrongClock(datetime):
    """``datetime`` but for ``now``; what it tells are plain ones."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(seconds=float(os.environ[OFF_SECONDS]))


def tell_the_wrong_time() -> int:
    """Set the clock of every module of ours; how many there were."""
    asking = [
        module
        for name, module in sys.modules.items()
        if name.startswith("roadstead.") and getattr(module, "datetime", None) is datetime
    ]
    for module in asking:
        module.datetime = WrongClock  # type: ignore[attr-defined]
    return len(asking)


if __name__ == "__main__":
    assert tell_the_wrong_time(), "no module of the operator asks for the time"
    sys.exit(main())
