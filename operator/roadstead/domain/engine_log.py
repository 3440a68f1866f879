"""What an engine said, as the node that ran it still has it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLog:
    """One log in a node's store; it outlives its slot for a while."""

    node: str
    slot: str
    index: int
    """Device group in the slot: one for each replica."""
    bytes: int = 0

    @property
    def label(self) -> str:
        """What stands before each of its lines: ``<node> <slot>.<index>``."""
        return f"{self.node} {self.slot}.{self.index}"
