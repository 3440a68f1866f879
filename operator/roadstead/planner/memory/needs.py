"""What one replica takes of a node, with how sure that is."""

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
    """File pages that must stay resident to be fast."""
    disk: int
    """Bytes in the node's weight store."""
    shared_memory: int
    """In ``/dev/shm``."""
