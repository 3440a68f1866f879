"""In which ways a content can be run on a node, whatever is free there: on accelerators, on its processor."""

from __future__ import annotations

from roadstead.domain.plan import Verdict
from roadstead.domain.release import Content
from roadstead.planner.needs import Need, need_of
from roadstead.planner.nodes import Seat
from roadstead.planner.paths import ways
from roadstead.planner.view import View


def ways_on(content: Content, seat: Seat, view: View, *, tight: bool = False) -> tuple[Need, ...] | Verdict:
    """What a replica would take in each of them, the best first; or why there is none.

    ``tight``: what it may do with, rather than what is enough for certain.
    """
    facts = seat.facts
    devices = facts.devices if facts is not None else ()
    isa = frozenset(facts.isa) if facts is not None and facts.isa else None
    found = ways(content, view.built(content), isa, devices)
    if isinstance(found, Verdict):
        return found
    return tuple(
        need_of(content, seat, way.size, tight=tight)._replace(among=frozenset(device.id for device in way.devices))
        for way in found
    )


def best_way(content: Content, seat: Seat, view: View) -> Need:
    """What it would take in the first of them; where there is none, what a processor would have to have."""
    return next(iter(needs_on(content, seat, view)), need_of(content, seat, 0))


def needs_on(content: Content, seat: Seat, view: View) -> tuple[Need, ...]:
    """The same; none where there is none."""
    found = ways_on(content, seat, view)
    return () if isinstance(found, Verdict) else found
