"""In which ways a content can be run on a node, whatever is free there: on its processor, on one accelerator, on more."""

from __future__ import annotations

from roadstead.domain.plan import Verdict
from roadstead.domain.release import Content
from roadstead.planner.needs import Need, need_of
from roadstead.planner.nodes import Seat
from roadstead.planner.view import View


def ways_on(content: Content, seat: Seat, view: View) -> tuple[Need, ...] | Verdict:
    """What a replica would take in each of them, the best first; or why there is none."""
    return (need_of(content, seat, 0),)


def needs_on(content: Content, seat: Seat, view: View) -> tuple[Need, ...]:
    """The same; none where there is none."""
    found = ways_on(content, seat, view)
    return () if isinstance(found, Verdict) else found
