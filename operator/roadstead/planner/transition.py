"""The way from the slots that are to the slots that should be, without a moment of less service than before.

A new slot starts beside the old ones where the room allows it now; the route takes it in as soon as it is Ready; an old
slot drains once the others carry the replicas that were asked for, and is removed when no gateway sends to it any more.
Where both do not fit, the old one stays and ``InsufficientCapacity`` says by how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from roadstead.domain.model import Model
from roadstead.domain.plan import FetchWeights, Verdict
from roadstead.domain.quantity import in_words
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Release
from roadstead.domain.slot import Shape, Slot
from roadstead.domain.snapshot import Known, ObservedSlot, WeightPhase
from roadstead.planner.deal import Deal, Target
from roadstead.planner.needs import Take
from roadstead.planner.nodes import Seat, engine_verdict, lost
from roadstead.planner.rooms import Rooms
from roadstead.planner.view import View

_FIRST_RETRY = timedelta(seconds=20)
_LAST_RETRY = timedelta(minutes=10)
_WAITS_FOR_OTHERS = Verdict(reason=Reason.STARTING, message="waits for the room that models of lower priority give up")
_NEVER_RAN = ("DEPLOY_FAILED", "DEPLOYING", "NOT_STARTED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """What to do about one model's slots this turn."""

    put: tuple[Slot, ...]
    remove: tuple[ObservedSlot, ...]
    draining: frozenset[str]
    """Names of slots that take no new requests."""
    fetches: tuple[FetchWeights, ...]
    waiting: Mapping[str, Verdict]
    """By name of a slot that is wanted but not there, or not in as many replicas: what it waits for."""
    blocked: tuple[Verdict, ...]
    """Why a slot that is wanted cannot be started while the old ones are there."""
    retry_after_seconds: float | None


@dataclass(slots=True)
class _Steps:
    put: list[Slot] = field(default_factory=list)
    fetches: list[FetchWeights] = field(default_factory=list)
    waiting: dict[str, Verdict] = field(default_factory=dict)
    blocked: list[Verdict] = field(default_factory=list)
    cramped: set[str] = field(default_factory=set)
    """Nodes on which something waits for room."""
    retries: list[float] = field(default_factory=list)


def plan_transition(
    model: Model,
    *,
    release: Release,
    deal: Deal,
    view: View,
    seats: Mapping[str, Seat],
    rooms: Rooms,
    now: datetime,
) -> Transition:
    """The next steps towards a deal; takes from ``rooms`` what it starts, and what it has claimed."""
    steps = _Steps()
    for target in deal.targets:
        seat = seats[target.node]
        if target.kept is not None:
            _keep(steps, model, target=target, kept=target.kept, seat=seat, rooms=rooms, now=now)
        else:
            _start(steps, model, target=target, seat=seat, rooms=rooms)
    for target in deal.targets:  # after what starts now: a claim is met by what others give up
        rooms.take(target.node, *target.claimed)
    if deal.missing:
        steps.fetches += _failed_fetches(release, view)
    draining = _draining(model, deal, seats, steps)
    removed = tuple(
        slot
        for slot in deal.leaving
        if _writable(seats.get(slot.node), view, slot)
        and (_useless(slot, seats) or (slot.name in draining and is_drained(model, slot.name, view)))
    )
    return Transition(
        put=tuple(steps.put),
        remove=removed,
        draining=draining,
        fetches=tuple(steps.fetches),
        waiting=steps.waiting,
        blocked=tuple(steps.blocked),
        retry_after_seconds=min(steps.retries, default=None),
    )


def is_drained(model: Model, slot: str, view: View) -> bool:
    """Whether every gateway works by a route that sends nothing to the slot and has nothing under way there."""
    route = view.snapshot.routes.get(model.key)
    if route is not None and any(address.slot == slot and not address.draining for address in route.slots):
        return False
    return view.has_drained(slot, route)


def _keep(
    steps: _Steps,
    model: Model,
    *,
    target: Target,
    kept: ObservedSlot,
    seat: Seat,
    rooms: Rooms,
    now: datetime,
) -> None:
    """A slot that is there: more or fewer replicas, a newer release's stamp, another attempt."""
    more = target.replicas - len(target.claimed) - kept.replicas
    started = _started(target, more, rooms)
    if len(started) < more:
        steps.blocked.append(_no_room(target, rooms))
    if target.claimed:
        steps.waiting[kept.name] = _WAITS_FOR_OTHERS
    attempt = kept.attempt
    if kept.failed_at is not None:
        due = kept.failed_at + min(_FIRST_RETRY * 2**kept.attempt, _LAST_RETRY)
        attempt += due <= now
        steps.retries.append(max(0.0, (due - now).total_seconds()))
    replicas = kept.replicas + (len(started) if more > 0 else more)
    groups = (*kept.groups, *(take.devices for take in started if take.devices))[:replicas]
    if (replicas, target.release, attempt) == (kept.replicas, kept.release, kept.attempt):
        return
    if seat.cell is not None and isinstance(seat.cell.facts, Known):
        steps.put.append(
            Slot(
                model=model.key,
                release=target.release,
                content=target.content,
                node=target.node,
                shape=Shape(threads=kept.threads, devices=kept.devices),
                replicas=replicas,
                memory_bytes=kept.memory_bytes,
                device_bytes=kept.device_bytes,
                groups=groups,
                attempt=attempt,
            )
        )


def _start(steps: _Steps, model: Model, *, target: Target, seat: Seat, rooms: Rooms) -> None:
    """A slot that is not there: weights first, then the slot, in as many replicas as fit beside what runs."""
    facts = seat.facts
    if facts is None:
        return  # its agent has gone since it was dealt to
    now = target.replicas - len(target.claimed)
    started = _started(target, now, rooms)
    slot = Slot(
        model=model.key,
        release=target.release,
        content=target.content,
        node=target.node,
        shape=Shape(threads=_threads(facts.cores), devices=target.need.devices),
        replicas=len(started),
        memory_bytes=target.need.host,
        device_bytes=target.need.each,
        groups=tuple(take.devices for take in started if take.devices),
    )
    if slot.replicas < now:
        steps.blocked.append(_no_room(target, rooms))
        steps.cramped.add(target.node)
    if not slot.replicas and not target.claimed:
        return
    artifact = target.content.artifact
    weight = facts.weight(artifact.digest)
    if weight is not None and weight.phase is WeightPhase.READY:
        if not slot.replicas:
            steps.waiting[slot.name] = _WAITS_FOR_OTHERS
            return
        if engine_verdict(seat, engine=target.content.engine, image=target.content.engine_image) is not None:
            steps.waiting[slot.name] = Verdict(reason=Reason.STARTING, message="waits for a worker of its image")
            return
        steps.put.append(slot)
        steps.waiting[slot.name] = Verdict(reason=Reason.STARTING, message="is being started")
        return
    if weight is None:
        steps.fetches.append(FetchWeights(node=target.node, artifact=artifact, source=target.content.source))
    tenths = 10 * weight.bytes_done // weight.bytes_total if weight is not None and weight.bytes_total else 0
    steps.waiting[slot.name] = Verdict(
        reason=Reason.FETCHING, message=f"fetching weights, {10 * tenths} % of {in_words(artifact.bytes)}"
    )


def _threads(cores: int) -> int:
    """One core is left to everything else: threads beyond the free cores make an engine's barriers spin."""
    return max(1, cores - 1)


def _started(target: Target, replicas: int, rooms: Rooms) -> list[Take]:
    """As many of them as there is room for beside what runs; it is taken."""
    started: list[Take] = []
    while len(started) < replicas and (take := rooms.room(target.node).spot(target.need)) is not None:
        rooms.take(target.node, take)
        started.append(take)
    return started


def _no_room(target: Target, rooms: Rooms) -> Verdict:
    need, free = target.need, rooms.free(target.node)
    words = f"{in_words(free)} are free"
    if need.host > free:
        words += f": {need.host - free} bytes short"
    elif need.devices:
        words = f"{in_words(max(0, rooms.room(target.node).emptiest))} are free on the emptiest"
    return Verdict(
        reason=Reason.INSUFFICIENT_CAPACITY,
        message=f"{target.content.variant} on {target.node} needs {need} beside what runs there, {words}",
    )


def _failed_fetches(release: Release, view: View) -> list[FetchWeights]:
    """Ask again for what could not be fetched; the agents keep a backoff of their own."""
    return [
        FetchWeights(node=node, artifact=content.artifact, source=content.source)
        for content in release.contents
        for node in view.failed_fetches(content.artifact.digest)
        if node in view.snapshot.nodes
    ]


def _draining(model: Model, deal: Deal, seats: Mapping[str, Seat], steps: _Steps) -> frozenset[str]:
    """Leaving slots that the others can already do without.

    Where a slot has outgrown its node and its successor waits for that very room, one other that serves is enough.
    What gives way to a model of higher priority is not waited for, unless all of it is on its way to another place.
    """
    stuck = any(target.kept is not None and target.kept.failed_at is not None for target in deal.targets)
    moves = not (deal.missing or steps.blocked or stuck)
    serving = sum(min(target.kept.ready, target.replicas) for target in deal.targets if target.kept is not None)
    serving += sum(slot.ready for slot in deal.leaving)
    draining: set[str] = set()
    for slot in deal.leaving:
        outgrown = slot.name in deal.crowded and slot.node in steps.cramped
        gives_way = slot.name in deal.claimants and not moves
        spare = serving - slot.ready >= (1 if outgrown else model.checked_spec.replicas)
        if spare or gives_way or slot.name in deal.forbidden or _useless(slot, seats):
            serving -= slot.ready
            draining.add(slot.name)
    return frozenset(draining)


def _useless(slot: ObservedSlot, seats: Mapping[str, Seat]) -> bool:
    """A leaving slot that has never served and holds room: it can go before its successor is there."""
    return slot.ready == 0 and slot.status in _NEVER_RAN and not lost(seats.get(slot.node))


def _writable(seat: Seat | None, view: View, slot: ObservedSlot) -> bool:
    """Whether the slot's cell is Known: nothing is removed from a cell that cannot be seen."""
    if seat is not None and seat.cell is not None:
        return isinstance(seat.cell.facts, Known)
    return slot.node in view.seen
