"""The fleet as everything is decided by it: one snapshot, and what follows from it whichever model is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from roadstead.domain.snapshot import FleetSnapshot
from roadstead.planner.adoption import Adoption, plan_adoption
from roadstead.planner.membership import with_members
from roadstead.planner.nodes import Seat, seats
from roadstead.planner.pods import PodPlan, plan_pods
from roadstead.planner.rooms import Rooms
from roadstead.planner.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is seen of a fleet."""

    adoption: Adoption
    pods: PodPlan
    view: View
    """Its pools have the engines that were adopted, its cells all of their nodes."""
    seats: Mapping[str, Seat]
    rooms: Rooms
    """As observed; a plan takes from them."""


def survey(snapshot: FleetSnapshot) -> Survey:
    """Look at it once."""
    adoption = plan_adoption(snapshot)
    seen = with_members(replace(snapshot, pools=adoption.pools))
    pods = plan_pods(seen)
    places = seats(seen, pods.closed)
    view = View(seen)
    return Survey(adoption=adoption, pods=pods, view=view, seats=places, rooms=Rooms.observed(view, places))
