"""How fast a simulated fleet does what takes time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """In seconds, by the wall clock."""

    fetch: float = 0.2
    """Until an artifact is in a node's store."""
    startup: float = 0.2
    """From a replica's lease to its first answer."""
    teardown: float = 0.2
    """Until what Ray takes down is gone and its leases have ended."""
    death: float = 1.0
    """Until Ray notices that a node died."""


SWEEP = Pace()
LIKE_REAL = Pace(fetch=5.0, startup=3.0, teardown=2.0, death=10.0)
