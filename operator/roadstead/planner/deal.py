"""Where the replicas of one model should be: what placement decides and the transition carries out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from roadstead.domain.plan import Resolve, Verdict
from roadstead.domain.release import Content
from roadstead.domain.snapshot import ObservedSlot
from roadstead.planner.needs import Need, Take


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One slot that should exist."""

    node: str
    content: Content
    replicas: int
    need: Need
    """Of each replica."""
    kept: ObservedSlot | None
    """The slot that already is there for it."""
    release: int
    """Number that the slot is stamped with."""
    claimed: tuple[Take, ...] = ()
    """Of the replicas, what those will have that wait for room which models of lower priority give up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """Where the replicas of one model should be."""

    targets: tuple[Target, ...]
    leaving: tuple[ObservedSlot, ...]
    """Slots that have no place in the deal."""
    forbidden: frozenset[str]
    """Names of leaving slots that must not serve until the others can do without them."""
    crowded: frozenset[str]
    """Names of leaving slots whose node has no memory for them any more."""
    claimants: Mapping[str, str]
    """By name of a slot that gives way to a model of higher priority: to which, in words."""
    missing: int
    """Replicas that found no node."""
    short: bool
    """Whether some did although a node would be large enough, if there were less on it."""
    refusals: Mapping[tuple[str, str], Verdict]
    """By variant and node: why this variant was not taken there, for some nodes."""
    unexplained: int
    """Nodes beyond these."""
    wish: int
    """Bytes of the smallest variant that would be better than the worst that was dealt; 0 if none would."""
    questions: tuple[Resolve, ...]
