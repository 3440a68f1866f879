"""Models at rest: nothing is to be done about them, and nothing that they depend on has changed since that was found.

Most of a fleet rests, and a plan should cost what changed. So the plan remembers what each resting model was planned
from and what its status says; as long as the one is the same, so is the other. A plan that remembers has the actions of
one that does not. Only words are older: why a variant is *not* on some node is told with the room of that moment. And
where many could have a better variant, but none has, it looks at a few of them each time, in turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from roadstead.domain.model import Model, ModelKey
from roadstead.domain.plan import ModelReport
from roadstead.domain.release import Release
from roadstead.domain.snapshot import Abilities, Known, Node, ObservedSlot, Pool, Route
from roadstead.planner.nodes import Seat
from roadstead.planner.view import Silence, View, silence


class Post(NamedTuple):
    """What a resting slot depends on at its node."""

    node: Node
    pool: Pool | None
    closed: Mapping[str, str]
    measured: tuple[tuple[tuple[str, float], ...], ...]
    """Memory, speeds and waits."""
    silence: Silence
    """Of its agent."""


class Grounds(NamedTuple):
    """Everything that the plan for a model at rest follows from."""

    model: Model
    releases: tuple[Release, ...]
    slots: tuple[ObservedSlot, ...]
    posts: tuple[Post | None, ...]
    route: Route | None
    owners: tuple[ModelKey | None, ...]
    """To whom each of its short names is granted."""
    pools: tuple[Pool, ...]
    abilities: tuple[Abilities, ...]
    """Of the pools' engines, which are equal however they are described."""
    ledger_known: bool
    crowded: tuple[int, ...]
    """Replicas of each slot that have no room any more."""
    silent_cells: tuple[tuple[str, Silence], ...]
    """All of them: a model without slots may have been served by any."""


def grounds(
    model: Model,
    *,
    view: View,
    seats: Mapping[str, Seat],
    owners: tuple[ModelKey | None, ...],
    crowded: Mapping[str, int],
) -> Grounds:
    """As they are now."""
    snapshot = view.snapshot
    slots = view.slots_of(model.key)
    return Grounds(
        model=model,
        releases=snapshot.releases.get(model.uid, ()),
        slots=slots,
        posts=tuple(_post(seats.get(slot.node)) for slot in slots),
        route=snapshot.routes.get(model.key),
        owners=owners,
        pools=snapshot.pools,
        abilities=view.abilities,
        ledger_known=isinstance(snapshot.ledger, Known),
        crowded=tuple(crowded.get(slot.name, 0) for slot in slots),
        silent_cells=view.silent_cells,
    )


def _post(seat: Seat | None) -> Post | None:
    if seat is None:
        return None
    facts = seat.facts
    return Post(
        node=seat.node,
        pool=seat.pool,
        closed=seat.closed,
        measured=(facts.measured_bytes, facts.measured_speeds, facts.measured_waits) if facts is not None else (),
        silence=silence(seat.agent),
    )


class Resting(NamedTuple):
    """What is known of a model at rest."""

    grounds: Grounds
    report: ModelReport
    wish: int
    """Bytes of the smallest variant that would be better; 0 if none would."""


@dataclass(slots=True)
class Rest:
    """What is remembered from plan to plan."""

    _reports: dict[str, Resting] = field(default_factory=dict)
    """By uid."""
    _in_vain: dict[str, int] = field(default_factory=dict)
    """By uid of a model at rest: the look for a better variant that found none, counted from 1."""

    def copy(self) -> Rest:
        """To think on from here without being remembered."""
        return Rest(dict(self._reports), dict(self._in_vain))

    def in_turns(self, models: Iterable[Model]) -> list[Model]:
        """Those first that were not looked at in vain, then those whose last such look is longest ago."""
        return sorted(models, key=lambda model: self._in_vain.get(model.uid, 0))

    def note_in_vain(self, model: Model) -> None:
        """It was looked at for a better variant, and there is none."""
        self._in_vain[model.uid] = max(self._in_vain.values(), default=0) + 1

    def of(self, found: Grounds) -> Resting | None:
        """What was found when the model came to rest on these grounds; None if it is to be planned.

        Then it is awake: should the same grounds come back, other things have been told meanwhile.
        """
        known = self._reports.get(found.model.uid)
        if known is not None and known.grounds == found:
            return known
        self._reports.pop(found.model.uid, None)
        self._in_vain.pop(found.model.uid, None)
        return None

    def note(self, resting: Resting) -> None:
        """The model rests."""
        self._reports[resting.grounds.model.uid] = resting

    def forget_all_but(self, models: tuple[Model, ...]) -> None:
        """Of the others nobody will ask again."""
        if len(self._reports) > len(models):
            alive = {model.uid for model in models}
            self._reports = {uid: noted for uid, noted in self._reports.items() if uid in alive}
            self._in_vain = {uid: look for uid, look in self._in_vain.items() if uid in alive}
