"""What a replica takes of a node, as bounds.

One figure that pretends to be exact starts what fails, or refuses what fits. Below ``least`` an engine is known not to
start; with ``most`` it is known to. Between the two only a start can tell.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Bytes: it will not run with less than ``least``, and surely runs with ``most``."""

    least: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one replica takes of a node."""

    device: Bounds
    """On each of its devices; (0, 0) without."""
    host: Bounds
    """Anonymous memory of the host."""
    page_cache: int
    """File pages that must stay resident to be fast (mmap)."""
    disk: int
    """Bytes in the node's weight store."""
    shared_memory: int
    """Of the host's POSIX shared memory."""
