"""Why here and not there: a model's variants on every kind of node, and what was passed over for what was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from roadstead.domain.model import ModelKey
from roadstead.domain.plan import QualityOrigin, Verdict
from roadstead.domain.release import Artifact
from roadstead.domain.snapshot import ResolutionKey
from roadstead.domain.supposition import Place, Wish


class NoSuchModel(Exception):
    """Somebody asks about a model that there is not; its key in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Where a model could run that nobody has applied."""

    wish: Wish
    known: tuple[tuple[str, Artifact], ...] = ()
    """By source: what is behind it, where somebody has looked already."""


class Term(NamedTuple):
    """One of the figures that add up to what a replica is worth."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A variant of the model, wherever it may run."""

    variant: str
    bytes: int
    """Size of its file; 0 while not known."""
    quality: float | None
    origin: QualityOrigin | None
    """Where that is from; None while it is not known."""
    verdict: Verdict | None
    """Why it can run nowhere, whatever the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A variant on nodes that are alike to it: of one pool and one size, and with one verdict."""

    variant: str
    pool: str
    nodes: tuple[str, ...]
    """The emptiest first; figures are of that one."""
    verdict: Verdict
    replicas: int
    """That are placed on these nodes."""
    needed_bytes: int
    """By a replica, of the host."""
    devices: int
    """Accelerators that a replica takes; 0: it runs on the processor."""
    device_bytes: int
    """On each of them."""
    device_free_bytes: int
    """For the model on the emptiest accelerator there; 0 where there is none."""
    measured_bytes: int
    """By a replica that ran there; 0 if none did."""
    free_bytes: int | None
    """For the model: what nothing else was promised. None while the agent is not known."""
    budget_bytes: int | None
    tokens_per_second: float | None
    """Of one stream; None if nothing is known."""
    speed_basis: str
    """``measured`` of this very content there, ``expected`` by what else was seen there, or ``computed`` from how fast
    memory is; empty if nothing is known."""
    terms: tuple[Term, ...]
    """What a replica is worth there."""

    @property
    def worth(self) -> float:
        return sum(term.value for term in self.terms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Replicas that have a place, and the best of what was passed over for it."""

    place: Place
    terms: tuple[Term, ...]
    """What a replica is worth there; empty where it only stands in for one of another release."""
    passed_over: tuple[Option, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Of one model."""

    model: ModelKey
    wanted: int
    pending: int
    """Replicas that find no place."""
    why: str
    """In words, if some find none, or if nothing can be said of it."""
    rungs: tuple[Rung, ...] = ()
    """The best first, then those that can run nowhere."""
    options: tuple[Option, ...] = ()
    """By variant, the best first; of each what is chosen first."""
    choices: tuple[Choice, ...] = ()
    """By node."""
    questions: tuple[ResolutionKey, ...] = ()
    """What agents have to be asked before more can be said."""
