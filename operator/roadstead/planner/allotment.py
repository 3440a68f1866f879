"""Models that want room at the same time: who gets which, so that the fleet as a whole is served best.

One by one, each model would take the best variant that fits, and the last would find nothing. Together they are an
assignment problem: a replica is worth its quality, so one more that is served at all is worth more than the difference
between two variants. What comes out is an offer to each model, which placement takes where it still holds; everything
else (files that are not on a node, replicas that stack, what no offer was made for) stays with placement.

An offer is made anew in every turn until the replica starts. That leads to the same nodes again, because what is on its
way there already counts a little, and what others have started meanwhile is out of the problem as it was to be.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from roadstead.domain.model import Model, ModelSpec
from roadstead.domain.release import Content, Release
from roadstead.domain.snapshot import Known, ObservedSlot
from roadstead.planner.assignment.problem import Demand, Machine, Option, Placed, Problem, Shape
from roadstead.planner.needs import Need
from roadstead.planner.nodes import Seat, engine_verdict, selection_verdict, start_verdict
from roadstead.planner.quality import below_floor, best_first
from roadstead.planner.rooms import Rooms
from roadstead.planner.speed import has_speed, too_slow
from roadstead.planner.spread import HOSTNAME, Domains, Topology
from roadstead.planner.view import View
from roadstead.planner.worth import FOR_ACCELERATORS, FOR_WEIGHTS, worth_of

_AMPLE = 2
"""Room for everybody's best, so many times over: then nothing has to be weighed up."""
_ANYBODY = ModelSpec(served_name="", variants=())

Ways = Callable[[Content, Seat], tuple[Need, ...]]
"""What a replica of a content may need on a node, in every way in which it can be run there, whatever is free."""
Offers = tuple[tuple[str, str], ...]
"""Node and content hash, for each replica that should be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allotment:
    """What was weighed up."""

    offers: Mapping[str, Offers] = field(default_factory=dict)
    """By uid."""
    gap: float | None = None
    """Share of the bound on what the fleet can be worth that these offers do not reach; None: there was nothing to
    weigh up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Replicas that a model lacks."""

    uid: str
    spec: ModelSpec
    replicas: int
    contents: tuple[Content, ...]
    """What may be served, the best first."""
    barred: frozenset[tuple[str, str]]
    """Content hash and node that do not go together: replicas of the model are there, or the weights cannot be had."""
    standing: tuple[tuple[str, int], ...]
    """Node and replicas of what the model has."""
    part: str = ""
    """Which one, where they are some of several."""
    beside: int = 0
    """Replicas that stand where those of this part are to go."""

    @property
    def name(self) -> str:
        """Unlike that of all others."""
        return f"{self.uid}/{self.part}"

    def by_domain(self, domains: Domains | None) -> tuple[Wanted, ...]:
        """In parts that each belong in one domain, so that nothing is offered that the spread would refuse."""
        if domains is None or domains.spread.topology_key == HOSTNAME:
            return (self,)  # nothing is offered on a node that has a replica, and one on each other is always allowed
        turns: defaultdict[str, list[int]] = defaultdict(list)
        for beside, domain in domains.turns(self.replicas, self.standing, seed=self.uid):
            turns[domain].append(beside)
        placement = self.spec.placement
        within = {domain: (*placement.node_selector, (domains.spread.topology_key, domain)) for domain in sorted(turns)}
        return tuple(
            replace(
                self,
                spec=replace(self.spec, placement=replace(placement, node_selector=selector)),
                replicas=len(turns[domain]),
                part=domain,
                beside=turns[domain][0],
            )
            for domain, selector in within.items()
        )


def replicas_lacking(
    model: Model, *, release: Release | None, observed: tuple[ObservedSlot, ...], view: View
) -> Wanted | None:
    """What a model lacks, if all that it has may stay; None if it lacks nothing, or has something to move first."""
    spec = model.checked_spec
    if release is None:
        return None
    lacking = spec.replicas - sum(slot.replicas for slot in observed)
    hashes = {content.hash for content in release.contents}
    ending = any(not slot.configured for slot in view.slots_of(model.key))
    if lacking <= 0 or ending or any(slot.content not in hashes for slot in observed):
        return None
    contents = tuple(content for content in best_first(release.contents, spec) if below_floor(content, spec) is None)
    own = {slot.node for slot in observed}
    pairs = {(content.hash, node) for content in contents for node in own | view.cannot_have(content)}
    return Wanted(
        uid=model.uid,
        spec=spec,
        replicas=lacking,
        contents=contents,
        barred=frozenset(pairs.union(_too_slow(contents, spec, view))),
        standing=tuple((slot.node, slot.replicas) for slot in observed),
    )


def _too_slow(contents: tuple[Content, ...], spec: ModelSpec, view: View) -> Iterable[tuple[str, str]]:
    if not has_speed(spec.requirements):
        return ()
    known = {name: part.value for name, part in view.snapshot.agents.items() if isinstance(part, Known)}
    return (
        (content.hash, name)
        for content in contents
        for name, facts in known.items()
        if not facts.devices and too_slow(content, facts, spec, view) is not None
    )


class _Kind(NamedTuple):
    """Nodes that are alike to all who want room now."""

    pool: str
    isa: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    """Of the node's those that somebody selects by."""
    engines: frozenset[tuple[str, str]]
    """Engine and image that can be started."""
    hardware: tuple[tuple[object, ...], ...]
    """Accelerators."""


def allot(
    wanted: Iterable[Wanted],
    *,
    seats: Mapping[str, Seat],
    rooms: Rooms,
    topology: Topology,
    ways: Ways,
    holders: Callable[[str], frozenset[str]],
) -> Allotment:
    """Offers; none where there is nothing to weigh up. ``holders`` are the nodes that have an artifact."""
    hopeful = _not_too_large(wanted, seats, rooms, ways)
    if len(hopeful) < 2:
        return Allotment()
    hopeful = tuple(part for each in hopeful for part in each.by_domain(topology.of(each.spec)))
    fleet = _Fleet(hopeful, seats, rooms, ways)
    able = [each for each in hopeful if fleet.may_fit(each)]
    if len({each.uid for each in able}) < 2 or fleet.has_ample_room(able):
        return Allotment()
    from roadstead.planner.assignment.solve import solve  # noqa: PLC0415 - numpy and HiGHS: 20 MiB that few fleets need

    demands = tuple(fleet.demand(each, holders) for each in able)
    solution = solve(Problem(machines=fleet.machines, demands=demands))
    return Allotment(offers=_offers(able, solution.placed), gap=solution.gap)


def _offers(able: Iterable[Wanted], placed: Iterable[Placed]) -> Mapping[str, Offers]:
    """By uid; what was asked for in parts in an order that the spread allows at every step."""
    asked = {each.name: each for each in able}
    before = Counter({name: each.beside for name, each in asked.items()})
    found: defaultdict[str, list[tuple[int, str, str]]] = defaultdict(list)
    for each in placed:
        found[asked[each.demand].uid].append((before[each.demand], each.machine, each.option.rung))
        before[each.demand] += 1
    return {
        uid: tuple((machine, rung) for _, machine, rung in sorted(offers, key=lambda offer: offer[0]))
        for uid, offers in found.items()
    }


def _not_too_large(wanted: Iterable[Wanted], seats: Mapping[str, Seat], rooms: Rooms, ways: Ways) -> tuple[Wanted, ...]:
    """Those that the emptiest node could take, were it open to them: a quick look, for those that wait for long."""
    largest = max((rooms.free(name) for name in seats), default=0)
    alike = {(seat.facts.isa, _hardware(seat)): seat for seat in seats.values() if seat.facts is not None}
    return tuple(
        each
        for each in wanted
        if any(
            need.host <= largest for content in each.contents for seat in alike.values() for need in ways(content, seat)
        )
    )


def _hardware(seat: Seat) -> tuple[tuple[object, ...], ...]:
    """The accelerators of a node by what they are, whatever is free on them."""
    devices = seat.facts.devices if seat.facts is not None else ()
    return tuple(
        (each.vendor, each.product, each.memory_bytes, each.compute_capability, each.mig_profile, each.sharing)
        for each in devices
    )


class _Fleet:
    """The open nodes by kind, and what models need on them."""

    def __init__(
        self,
        wanted: tuple[Wanted, ...],
        seats: Mapping[str, Seat],
        rooms: Rooms,
        ways: Ways,
    ) -> None:
        self._rooms = rooms
        self._ways_on = ways
        self._builds = {(each.engine, each.engine_image) for model in wanted for each in model.contents}
        self._keys = {key for model in wanted for key, _ in model.spec.placement.node_selector}
        self._seats: defaultdict[_Kind, list[Seat]] = defaultdict(list)
        for seat in seats.values():
            if start_verdict(seat, _ANYBODY) is None and rooms.free(seat.node.name):
                self._seats[self._kind(seat)].append(seat)
        self._names = {kind: f"{number:04}" for number, kind in enumerate(sorted(self._seats, key=repr))}

    def _kind(self, seat: Seat) -> _Kind:
        return _Kind(
            pool=seat.pool.name if seat.pool is not None else "",
            isa=seat.facts.isa if seat.facts is not None else (),
            labels=tuple((key, value) for key, value in seat.node.labels if key in self._keys),
            engines=frozenset(
                build for build in self._builds if engine_verdict(seat, engine=build[0], image=build[1]) is None
            ),
            hardware=_hardware(seat),
        )

    @cached_property
    def machines(self) -> tuple[Machine, ...]:
        return tuple(
            Machine(
                name=seat.node.name,
                kind=self._names[kind],
                devices=self._devices(kind, seat.node.name),
                host_bytes=self._rooms.free(seat.node.name),
            )
            for kind, seats in self._seats.items()
            for seat in seats
        )

    def _devices(self, kind: _Kind, node: str) -> tuple[int, ...]:
        """What is free on each; none where they differ, which placement looks at one by one."""
        alike = len(set(kind.hardware)) == 1
        return tuple(max(0, free) for _, free in self._rooms.room(node).devices) if alike else ()

    @cached_property
    def _free(self) -> Mapping[_Kind, tuple[int, int]]:
        """Of the host, in all and on the emptiest."""
        found = {}
        for kind, seats in self._seats.items():
            free = [self._rooms.free(seat.node.name) for seat in seats]
            found[kind] = (sum(free), max(free))
        return found

    @cached_property
    def _kind_on(self) -> Mapping[str, _Kind]:
        return {seat.node.name: kind for kind, seats in self._seats.items() for seat in seats}

    def _ways(self, wanted: Wanted) -> Iterable[tuple[_Kind, int, Content, Need]]:
        """Kinds that it may be served on, and of each content its place in the ladder and what it may need there."""
        for kind, seats in self._seats.items():
            if selection_verdict(seats[0], wanted.spec) is None:
                for place, content in enumerate(wanted.contents):
                    if (content.engine, content.engine_image) in kind.engines:
                        for need in self._ways_on(content, seats[0]):
                            if not need.devices or len(set(kind.hardware)) == 1:
                                yield kind, place, content, need

    def may_fit(self, wanted: Wanted) -> bool:
        """Whether any of it has room on any node now."""
        return any(need.host <= self._free[kind][1] for kind, _, _, need in self._ways(wanted))

    def has_ample_room(self, able: list[Wanted]) -> bool:
        """Whether everybody's best fits wherever he may go, whatever the others take."""
        if any(kind.hardware for kind in self._seats):
            return False  # of accelerators too many things can be short
        best = {each.uid: {kind: need.host for kind, place, _, need in self._ways(each) if place == 0} for each in able}
        if not all(best.values()):
            return False
        everything = sum(each.replicas * max(best[each.uid].values()) for each in able)
        largest = max(max(needs.values()) for needs in best.values())
        return all(
            _AMPLE * everything <= sum(self._free[kind][0] for kind in kinds)
            and _AMPLE * largest <= max(self._free[kind][1] for kind in kinds)
            for kinds in best.values()
        )

    def demand(self, wanted: Wanted, holders: Callable[[str], frozenset[str]]) -> Demand:
        worth = worth_of(wanted.contents, wanted.spec)
        there = {content.hash: holders(content.artifact.digest) for content in wanted.contents}
        drawn = frozenset((rung, node) for rung, nodes in there.items() for node in nodes if node in self._kind_on)
        held = {(rung, self._kind_on[node]) for rung, node in drawn}
        return Demand(
            name=wanted.name,
            replicas=wanted.replicas,
            band=wanted.spec.placement.priority,
            options=tuple(
                Option(
                    rung=content.hash,
                    kind=self._names[kind],
                    shape=Shape(devices=need.devices, device_bytes=need.each, host_bytes=need.host),
                    utility=worth[place].total
                    + FOR_WEIGHTS * ((content.hash, kind) in held)
                    + FOR_ACCELERATORS * (need.devices > 0),
                )
                for kind, place, content, need in self._ways(wanted)
            ),
            spread=True,
            barred=wanted.barred,
            drawn=drawn,
        )
