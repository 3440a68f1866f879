"""What if: a change of the fleet that nobody has made, and what would follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from roadstead.domain.model import ModelKey, ModelSpec
from roadstead.domain.snapshot import ResolutionKey


class NoSuchNode(Exception):
    """A supposition is about a node that there is not; its name."""


class Wish(NamedTuple):
    """A LocalModel as somebody might apply it: a new one, or another spec of one that there is."""

    key: ModelKey
    spec: ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Supposition:
    """A change to think through. Nothing is done for it."""

    drained: tuple[str, ...] = ()
    """Nodes that would take nothing any more, and give up what they have."""
    added: tuple[tuple[str, int], ...] = ()
    """A node, and how many empty ones just like it there would be beside it."""
    applied: tuple[Wish, ...] = ()
    """Models that would be there, or be otherwise."""


class Place(NamedTuple):
    """Replicas of a variant on a node."""

    node: str
    variant: str
    replicas: int
    content: str = ""
    """Hash of what they serve, where that makes a difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What would become of a model."""

    model: ModelKey
    stops: tuple[Place, ...]
    starts: tuple[Place, ...]
    pending: int
    """Replicas that find no place now."""
    pending_then: int
    why: str
    """In words, if some would find none then, or if it is not known what is behind a source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    """Of a supposition."""

    differences: tuple[Difference, ...]
    """Of the models that would fare otherwise, and of those that would be new, by name."""
    questions: tuple[ResolutionKey, ...] = ()
    """What agents have to be asked before more can be said."""
