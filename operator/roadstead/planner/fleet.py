"""``plan``: from one picture of the fleet to what should be done about it, model by model, the oldest first.

Equal snapshots at equal times give equal plans. The order of the actions is the order in which they are carried out:
what adds comes before what takes away; a finalizer goes last of all that concerns a model, and Pods after that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from roadstead.domain.model import Model, ModelKey
from roadstead.domain.plan import (
    Action,
    ClearFinalizer,
    ConfigureCell,
    FetchWeights,
    FleetPlan,
    ForgetRelease,
    ForgetWeights,
    MakeRelease,
    ModelReport,
    PublishRoute,
    Resolve,
    SetFinalizer,
    WithdrawRoute,
)
from roadstead.domain.slot import Slot
from roadstead.domain.snapshot import FleetSnapshot, Known, ObservedSlot, Pool
from roadstead.planner.allotment import Offers, Wanted, allot, replicas_lacking
from roadstead.planner.crowding import too_many
from roadstead.planner.deal import Deal
from roadstead.planner.departure import plan_departure
from roadstead.planner.ladder import PROGRESS, RETRY, Askable, Ladder, resolve_ladder
from roadstead.planner.names import grant_names
from roadstead.planner.nodes import Seat
from roadstead.planner.orphans import Orphans, find_orphans, orphaned_weights
from roadstead.planner.placement import deal_replicas
from roadstead.planner.pool_reports import report_pools
from roadstead.planner.preemption import Claims
from roadstead.planner.rankings import Rankings
from roadstead.planner.releases import ReleaseChoice, choose_release, forgettable, stamped_release, unserved
from roadstead.planner.reports import Findings, report
from roadstead.planner.rest import Grounds, Rest, Resting, grounds
from roadstead.planner.rooms import Rooms
from roadstead.planner.routes import plan_route, worth_publishing
from roadstead.planner.spread import Topology
from roadstead.planner.survey import survey
from roadstead.planner.transition import Transition, plan_transition
from roadstead.planner.unheard import unheard
from roadstead.planner.view import View, configured
from roadstead.planner.ways import needs_on

_ORDER: Final = (
    SetFinalizer,
    Resolve,
    MakeRelease,
    PublishRoute,
    WithdrawRoute,
    ForgetRelease,
    ForgetWeights,
    ClearFinalizer,
)
"""Of the actions about one model."""


@dataclass(slots=True)
class _Draft:
    """The plan as it grows."""

    view: View
    offered: tuple[Pool, ...]
    """Pools with all that they offer, adopted or not."""
    now: datetime
    seats: Mapping[str, Seat]
    granted: Mapping[str, ModelKey]
    rooms: Rooms
    rankings: Rankings
    topology: Topology
    askable: Askable
    rest: Rest
    crowded: dict[str, int]
    """By slot, replicas that have no room on their node any more; claims add to it."""
    claims: Claims
    actions: list[Action] = field(default_factory=list)
    last: list[Action] = field(default_factory=list)
    """What may only happen after everything else."""
    put: list[Slot] = field(default_factory=list)
    remove: list[ObservedSlot] = field(default_factory=list)
    fetches: dict[tuple[str, str], FetchWeights] = field(default_factory=dict)
    reports: list[ModelReport] = field(default_factory=list)
    wakes: list[float] = field(default_factory=list)
    wishes: dict[str, int] = field(default_factory=dict)
    """By uid of a model that is as it should be: bytes of the smallest variant that would be better still."""
    moving: int = 0
    """Models of which something starts or leaves."""
    short: bool = False
    """Whether somebody lacks room."""

    @property
    def length(self) -> int:
        """Grows with everything that is to be done or waited for."""
        todo = (self.actions, self.last, self.put, self.remove, self.wakes)
        return sum(len(part) for part in todo) + len(self.fetches)


_MOVES: Final = 2
"""Models that anything starts or leaves of, while further ones are given a better variant."""

_LOOKS: Final = 16
"""Models that are looked at for a better variant in one plan: where none finds any, a plan should cost what changed."""


def plan(snapshot: FleetSnapshot, now: datetime, rest: Rest | None = None) -> FleetPlan:
    """What the fleet should look like next. Pure; see the package for what that promises.

    ``rest`` is carried from plan to plan by whoever makes many; it saves work and changes nothing but words.
    """
    rest = rest if rest is not None else Rest()
    rest.forget_all_but(snapshot.models)
    seen = survey(snapshot)
    adoption, pods, view, places, rooms = seen.adoption, seen.pods, seen.view, seen.seats, seen.rooms
    draft = _Draft(
        view=view,
        offered=snapshot.pools,
        now=now,
        seats=places,
        granted=grant_names(snapshot.models, snapshot.routes),
        rooms=rooms,
        rankings=Rankings(places, rooms),
        topology=Topology(places),
        askable=Askable(places),
        rest=rest,
        crowded=dict(too_many(view, places)),
        claims=Claims(view, places),
    )
    models = sorted(snapshot.models, key=lambda model: model.rank)
    found = {model.uid: _look_at(draft, model) for model in models if not model.deleting and model.spec is not None}
    allotment = allot(
        [each.wanted for each in found.values() if isinstance(each, _Awake) and each.wanted is not None],
        seats=places,
        rooms=rooms,
        topology=draft.topology,
        ways=lambda content, seat: needs_on(content, seat, view),
        holders=view.holders,
    )
    for model in models:
        if model.deleting:
            _depart(draft, model)
        elif model.spec is None:
            _leave_as_it_is(draft, model)
        else:
            _serve(draft, model, found[model.uid], allotment.offers.get(model.uid, ()))
    _better(draft, models)
    orphans = _sweep_orphans(draft)
    protection = pods.protection(draft.put)
    return FleetPlan(
        actions=(
            *adoption.records,
            *pods.additions(),
            *_kind_by_kind(draft.actions),
            *draft.fetches.values(),
            *protection.protect,
            *_cell_changes(draft),
            *_kind_by_kind(draft.last),
            *protection.unprotect,
            *pods.removals(),
        ),
        reports=tuple(draft.reports),
        pools=report_pools(snapshot, adoption=adoption, pods=pods, held=orphans.held),
        held=orphans.held,
        assignment_gap=allotment.gap,
        wake_after_seconds=min(draft.wakes, default=None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Awake:
    """A model that something is to be planned for, as far as it concerns no other."""

    grounds: Grounds
    ladder: Ladder
    observed: tuple[ObservedSlot, ...]
    choice: ReleaseChoice
    wanted: Wanted | None
    """What it lacks, if that is all it needs."""


def _look_at(draft: _Draft, model: Model) -> _Awake | Resting:
    """A model that is wanted and can be read."""
    owners = tuple(draft.granted.get(name) for name in model.checked_spec.names)
    found = grounds(model, view=draft.view, seats=draft.seats, owners=owners, crowded=draft.crowded)
    return draft.rest.of(found) or _awake(draft, found)


def _awake(draft: _Draft, found: Grounds) -> _Awake:
    snapshot, model = draft.view.snapshot, found.model
    ladder = resolve_ladder(model, snapshot=snapshot, askable=draft.askable, now=draft.now)
    observed = configured(draft.view.slots_of(model.key))
    choice = choose_release(
        model,
        ladder=ladder,
        pools=snapshot.pools,
        releases=snapshot.releases.get(model.uid, ()),
        observed=observed,
    )
    wanted: Wanted | None = None
    if model.finalized:
        wanted = replicas_lacking(model, release=choice.release, observed=observed, view=draft.view)
    return _Awake(grounds=found, ladder=ladder, observed=observed, choice=choice, wanted=wanted)


def _serve(draft: _Draft, model: Model, found: _Awake | Resting, offers: Offers) -> None:
    """A model that is wanted and can be read."""
    if any(slot.name in draft.claims.giving_way for slot in draft.view.slots_of(model.key)):
        found = _look_at(draft, model)  # it is not at rest any more
    if isinstance(found, Resting):
        draft.reports.append(found.report)
        draft.wishes[model.uid] = found.wish
        return
    before = draft.length
    deal = _plan_service(draft, model, found, offers)
    if deal is not None and draft.length == before:
        draft.rest.note(Resting(found.grounds, draft.reports[-1], deal.wish))
        draft.wishes[model.uid] = deal.wish


def _better(draft: _Draft, models: list[Model]) -> None:
    """A better variant for models that are as they should be, where nobody lacks the room; a few at a time."""
    if draft.short or not any(draft.wishes.values()):
        return
    largest = max((draft.rooms.free(name) for name in draft.seats), default=0)
    able = [model for model in models if 0 < draft.wishes.get(model.uid, 0) <= largest]
    for model in draft.rest.in_turns(able)[:_LOOKS]:
        if draft.moving >= _MOVES:
            return
        if not _bettered(draft, model):
            draft.rest.note_in_vain(model)


def _bettered(draft: _Draft, model: Model) -> bool:
    """Whether there is something better. If not, what is told stays: words about free memory move."""
    found = _look_at(draft, model)
    awake = _awake(draft, found.grounds) if isinstance(found, Resting) else found
    moving = draft.moving
    _plan_service(draft, model, awake, (), better=True)
    told = draft.reports.pop()
    if draft.moving == moving:
        return False
    draft.reports = [told if each.model.uid == model.uid else each for each in draft.reports]
    return True


def _plan_service(draft: _Draft, model: Model, awake: _Awake, offers: Offers, *, better: bool = False) -> Deal | None:
    """What to do about a model and what to say; its deal, if it is as it should be once nothing is to be done."""
    snapshot = draft.view.snapshot
    ladder, observed, choice = awake.ladder, awake.observed, awake.choice
    if not model.finalized:
        draft.actions.append(SetFinalizer(model=model))
    draft.actions += ladder.questions
    if not ladder.complete:
        draft.wakes.append((PROGRESS if ladder.pending else RETRY).total_seconds())
    if choice.make and isinstance(snapshot.ledger, Known) and model.finalized:
        kept = snapshot.releases.get(model.uid, ())
        draft.actions.append(MakeRelease(model=model, contents=choice.make, above=kept[-1].number if kept else 0))
    deal: Deal | None = None
    transition: Transition | None = None
    if choice.release is not None and model.finalized:
        deal = deal_replicas(
            model,
            release=choice.release,
            observed=observed,
            view=draft.view,
            seats=draft.seats,
            rooms=draft.rooms,
            rankings=draft.rankings,
            domains=draft.topology.of(model.checked_spec),
            crowded=draft.crowded,
            offers=offers,
            claims=draft.claims,
            better=better,
            now=draft.now,
        )
        for slot, replicas in draft.claims.giving_way.items():
            draft.crowded[slot] = max(replicas, draft.crowded.get(slot, 0))
        transition = plan_transition(
            model,
            release=choice.release,
            deal=deal,
            view=draft.view,
            seats=draft.seats,
            rooms=draft.rooms,
            now=draft.now,
        )
        _carry_out(draft, deal, transition)
        _forget_releases(draft, model, choice)
    route = plan_route(
        model,
        release=choice.release,
        observed=observed,
        draining=transition.draining if transition is not None else frozenset(),
        granted=draft.granted,
        view=draft.view,
    )
    published = snapshot.routes.get(model.key)
    if model.finalized and worth_publishing(route, published):
        seen = published.resource_version if published is not None else ""
        draft.actions.append(PublishRoute(route=replace(route, resource_version=seen)))
    draft.reports.append(
        report(
            Findings(
                model=model,
                seats=draft.seats,
                granted=draft.granted,
                ladder=ladder,
                release=choice.release,
                previous=choice.previous,
                making=bool(choice.make),
                unserved=unserved(model, ladder=ladder, pools=draft.offered),
                ledger_known=isinstance(snapshot.ledger, Known),
                observed=observed,
                deal=deal,
                transition=transition,
                route=route,
                unheard=unheard(
                    model.key,
                    observed,
                    seats=draft.seats,
                    view=draft.view,
                    making=bool(choice.make),
                    leaving=deal is not None and bool(deal.leaving),
                ),
            )
        )
    )
    if deal is None or transition is None:
        return None
    draft.moving += bool(transition.put or transition.waiting or deal.leaving)
    draft.short = draft.short or deal.short
    under_way = choice.make or not ladder.complete or deal.leaving or transition.waiting or transition.blocked
    return None if under_way or deal.missing else deal


def _carry_out(draft: _Draft, deal: Deal, transition: Transition) -> None:
    draft.actions += deal.questions
    draft.put += transition.put
    draft.remove += transition.remove
    for fetch in transition.fetches:
        draft.fetches.setdefault((fetch.node, fetch.artifact.digest), fetch)
    if transition.retry_after_seconds is not None:
        draft.wakes.append(transition.retry_after_seconds)


def _forget_releases(draft: _Draft, model: Model, choice: ReleaseChoice) -> None:
    """Of releases that are not at hand any more the ledger tells; without it, or with a cell unseen, all stay."""
    snapshot = draft.view.snapshot
    if choice.release is None or choice.make or not draft.view.all_seen or not isinstance(snapshot.ledger, Known):
        return
    outdated = forgettable(
        snapshot.releases.get(model.uid, ()),
        keep=model.checked_spec.keep_releases,
        chosen=choice.release,
        observed=draft.view.slots_of(model.key),
    )
    draft.last += [ForgetRelease(model=model, number=release.number) for release in outdated]


def _leave_as_it_is(draft: _Draft, model: Model) -> None:
    """A spec that cannot be read changes nothing: what runs goes on by its last route."""
    observed = configured(draft.view.slots_of(model.key))
    releases = draft.view.snapshot.releases.get(model.uid, ())
    draft.reports.append(
        report(
            Findings(
                model=model,
                seats=draft.seats,
                granted=draft.granted,
                release=stamped_release(releases, observed),
                observed=observed,
                route=draft.view.snapshot.routes.get(model.key),
            )
        )
    )


def _depart(draft: _Draft, model: Model) -> None:
    """A model whose end was asked for."""
    departure = plan_departure(model, view=draft.view, now=draft.now)
    if departure.withdraw is not None:
        draft.actions.append(departure.withdraw)
    draft.remove += departure.remove
    draft.last += departure.forget
    if departure.clear is not None:
        draft.last.append(departure.clear)
    if departure.wake_after_seconds is not None:
        draft.wakes.append(departure.wake_after_seconds)
    if not model.finalized:
        return  # somebody else's finalizer holds it; there is nothing of ours to tell
    draft.reports.append(
        report(
            Findings(
                model=model,
                seats=draft.seats,
                granted=draft.granted,
                observed=draft.view.slots_of(model.key),
                departing=departure.message,
                unheard=unheard(
                    model.key,
                    draft.view.slots_of(model.key),
                    seats=draft.seats,
                    view=draft.view,
                    making=False,
                    leaving=True,
                ),
            )
        )
    )


def _sweep_orphans(draft: _Draft) -> Orphans:
    """Slots and routes whose LocalModel is gone; weights that nothing refers to, once nothing else is to be done."""
    orphans = find_orphans(draft.view)
    idle = not draft.length
    draft.last += [WithdrawRoute(route=route) for route in orphans.withdraw]
    draft.remove += orphans.remove
    if idle and not orphans.held:
        draft.last += orphaned_weights(draft.view)
    return orphans


def _kind_by_kind(actions: list[Action]) -> list[Action]:
    """All of one kind together, whichever model they are about: only these can be carried out side by side."""
    return sorted(actions, key=lambda action: _ORDER.index(type(action)))


def _cell_changes(draft: _Draft) -> list[Action]:
    """One change per cell and turn, because Ray replaces a cell's configuration as a whole."""
    put: defaultdict[str, list[Slot]] = defaultdict(list)
    for slot in draft.put:
        cell = draft.seats[slot.node].cell
        if cell is not None:
            put[cell.name].append(slot)
    changes: list[Action] = []
    for cell in draft.view.snapshot.cells:
        removed = tuple(sorted(slot.name for slot in draft.remove if slot.node in cell.nodes))
        if isinstance(cell.facts, Known) and (put[cell.name] or removed):
            changes.append(
                ConfigureCell(
                    cell=cell.name,
                    base=cell.facts.value.base,
                    put=tuple(sorted(put[cell.name], key=lambda slot: slot.name)),
                    remove=removed,
                )
            )
    return changes
