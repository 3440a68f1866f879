"""Dealing replicas to nodes: which node runs how many replicas of which content, and why not otherwise.

Offers come first: where several models want the same room, ``allotment`` has weighed them up together. Other
replicas are dealt one by one to the fitting node with the fewest replicas of this model, then to one that has the
weights already or is fetching them, then to that with the most free memory, then by name; each takes there the variant
of highest quality. Weights draw only what would be no better elsewhere. Without that, models that came together would
push each other about: free memory changes with every one that starts, and each move is a download thrown away.

Nodes are looked at in that order, and no further than the first that fits; only some of the others are told why they
were passed over. A slot that was placed for this release stays: only a new release, a lost, closing or shrunk node, a
changed policy, a speed that is too low, a higher priority or room for a better variant moves anything. Memory is
exclusive, cores are shared.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from heapq import nsmallest
from itertools import islice
from typing import NamedTuple

from roadstead.domain.model import Model, ModelSpec
from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Content, Release
from roadstead.domain.snapshot import ObservedSlot
from roadstead.planner.allotment import Offers
from roadstead.planner.bridges import bridges_over
from roadstead.planner.deal import Deal, Target
from roadstead.planner.needs import Need, Take, bytes_needed, need_of_slot, takes_of
from roadstead.planner.nodes import Seat, haste, selection_verdict, start_verdict
from roadstead.planner.preemption import Claims, Sacrifice
from roadstead.planner.quality import below_floor, best_first, quality
from roadstead.planner.rankings import Ranking, Rankings
from roadstead.planner.rooms import Room, Rooms
from roadstead.planner.spread import Domains
from roadstead.planner.standing import look_at_standing
from roadstead.planner.verdicts import Case, asks_first, content_verdict, need_on
from roadstead.planner.view import View

_EXPLAINED = 8
"""Nodes of which status says why a variant is not there; with more it would not be read."""
_WORTH_A_MOVE = 0.01
"""Of quality: for less nothing that serves is replaced."""
_TRIED = 64
"""Nodes on which a place is looked for that may be too small, those with the most free memory."""
_HOLDERS = 8
"""Nodes that have an artifact and are looked at for it, the emptiest of them; many models share some artifacts."""


@dataclass(slots=True, kw_only=True)
class _Table(Case):
    """The deal as it is being made."""

    contents: tuple[Content, ...]
    seats: Mapping[str, Seat]
    rooms: Rooms
    ranking: Ranking
    domains: Domains | None
    """What the replicas are spread over, if they are to be."""
    least: int
    """Bytes that the smallest of the contents needs, wherever that may be."""
    own: set[str] = field(default_factory=set)
    """Nodes whose room is not what the ranking goes by: with replicas of this model, dealt or leaving."""
    refused: dict[str, None] = field(default_factory=dict)
    """Nodes that nothing of the model can start on, in the order in which they were looked at."""
    unasked: set[str] = field(default_factory=set)
    """Of these, nodes that are asked now for the first time whether they can have the artifact."""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By node and content hash."""
    holders: dict[str, frozenset[str]] = field(default_factory=dict)
    """By content hash, nodes that have its artifact or are fetching it."""
    needs: dict[tuple[str, str], Need] = field(default_factory=dict)
    """What each of them takes: all replicas of a content on a node run alike."""
    takes: defaultdict[tuple[str, str], list[Take]] = field(default_factory=lambda: defaultdict(list))
    """What each of the replicas has, or will have."""
    claimed: defaultdict[tuple[str, str], list[Take]] = field(default_factory=lambda: defaultdict(list))
    """Of these, those that wait for room which others give up."""
    refusals: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    beside: Counter[str] = field(default_factory=Counter)
    """By node, what counts for the spread beside what is dealt: bridges; less what is about to leave."""

    def on(self, node: str) -> int:
        """Replicas dealt to a node so far."""
        return sum(count for (seat, _), count in self.counts.items() if seat == node)

    def places(self) -> Iterator[tuple[str, int]]:
        """Replicas as the spread counts them."""
        yield from ((node, count) for (node, _), count in self.counts.items())
        yield from self.beside.items()

    def evens(self, node: str) -> bool:
        """Whether the spread allows one more replica on a node."""
        return self.domains is None or self.domains.allow(node, self.places())

    def unevenness(self, *changes: tuple[str, int]) -> int:
        """Replicas by which the spread is exceeded, once so many more or fewer are on some nodes."""
        return 0 if self.domains is None else self.domains.exceeded([*self.places(), *changes])


class _Claimable(NamedTuple):
    """A place that others would have to leave."""

    order: tuple[object, ...]
    """The least comes first. Weights that are there keep a claim where it is, once it has begun."""
    node: str
    content: Content
    need: Need
    take: Take
    sacrifice: Sacrifice


def deal_replicas(
    model: Model,
    *,
    release: Release,
    observed: tuple[ObservedSlot, ...],
    view: View,
    seats: Mapping[str, Seat],
    rooms: Rooms,
    rankings: Rankings,
    domains: Domains | None,
    crowded: Mapping[str, int],
    offers: Offers,
    claims: Claims,
    better: bool,
    now: datetime,
) -> Deal:
    """Deal ``spec.replicas`` replicas of a release, starting from what is there.

    ``crowded`` says by slot how many of its replicas have no room on their node any more; ``offers`` are taken before
    anything else is looked for. What finds no room claims that of models of lower priority. ``better``: one replica may
    give way to one of a better variant.
    """
    standing = look_at_standing(model, release=release, observed=observed, seats=seats, view=view)
    leaving = list(standing.leaving)
    contents = best_first(release.contents, model.checked_spec)
    table = _Table(
        spec=model.checked_spec,
        contents=contents,
        seats=seats,
        view=view,
        rooms=rooms.after_leaving(leaving),
        ranking=rankings.of(model.checked_spec),
        domains=domains,
        least=min((bytes_needed(content, isa) for content in contents for isa in rankings.isas), default=0),
        now=now,
        own={slot.node for slot in observed},
        serving=frozenset(slot.node for slot in observed),
        holders={content.hash: view.holders(content.artifact.digest) for content in contents},
    )
    _count_on_what_ends(table, view.slots_of(model.key))
    kept: dict[tuple[str, str], ObservedSlot] = {}
    for slot in standing.staying:
        if slot.release < release.number and not _still_best(table, slot):
            leaving.append(slot)
            table.rooms = table.rooms.after_leaving([slot])
        else:
            kept[slot.node, slot.content] = slot
            without = min(slot.replicas, crowded.get(slot.name, 0))
            table.counts[slot.node, slot.content] = slot.replicas - without
            table.needs[slot.node, slot.content] = need_of_slot(slot)
            table.takes[slot.node, slot.content] = list(takes_of(slot))[: slot.replicas - without]
            table.rooms.give_back(slot.node, takes_of(slot, without))
    _shrink(table, model.checked_spec.replicas)
    if _grow(table, model.checked_spec.replicas, offers):
        if claims.may_claim(model):
            _claim(table, model, claims)
        _try(table)
    if better:
        _better(table)
    explained = _explain(table)
    for key, slot in kept.items():
        if not table.counts[key]:
            leaving.append(slot)
    missing = max(0, model.checked_spec.replicas - table.counts.total())
    bridges = bridges_over(
        missing,
        leaving=[
            slot
            for slot in leaving
            if slot.name not in standing.forbidden
            and slot.name not in claims.claimants
            and _selected(seats.get(slot.node), model.checked_spec)
        ],
        releases=view.snapshot.releases.get(model.uid, ()),
        seats=seats,
        rooms=table.rooms,
        there=table.beside,
        evens=table.evens,
        fits=lambda content, node: _starts(table, node, content),
    )
    bridged = {bridge.kept.name for bridge in bridges if bridge.kept is not None}
    return Deal(
        targets=(*_targets(table, kept, release), *bridges),
        leaving=tuple(
            sorted(
                (slot for slot in leaving if slot.name not in bridged), key=lambda slot: (haste(seats, slot), slot.name)
            )
        ),
        forbidden=standing.forbidden,
        crowded=frozenset(slot.name for slot in leaving if slot.name in crowded),
        claimants={slot.name: claims.claimants[slot.name] for slot in observed if slot.name in claims.claimants},
        missing=missing,
        short=missing > 0 and _large_enough(table),
        refusals=table.refusals,
        unexplained=len(seats) - explained,
        wish=_wish(table, rankings.isas),
        questions=tuple(table.questions.values()),
    )


def _count_on_what_ends(table: _Table, slots: tuple[ObservedSlot, ...]) -> None:
    """The model's own engines that are being torn down make room for it; starting waits until they have."""
    for slot in slots:
        seat = table.seats.get(slot.node)
        if slot.configured or seat is None or seat.facts is None:
            continue
        table.rooms.count_on(slot.node, [lease for lease in seat.facts.leases if lease.slot == slot.name])
        table.own.add(slot.node)


def _selected(seat: Seat | None, spec: ModelSpec) -> bool:
    return seat is not None and selection_verdict(seat, spec) is None


def _still_best(table: _Table, slot: ObservedSlot) -> bool:
    """Whether a new release would choose for this node what the slot already runs."""
    seat = table.seats[slot.node]
    if seat.facts is None:
        return True  # nothing is moved on missing knowledge
    room = table.rooms.room(slot.node).plus(takes_of(slot, 1))
    for content in table.contents:
        if content.hash == slot.content:
            return True
        if content_verdict(table, content, seat, room=room) is None:
            return False
    return True


def _shrink(table: _Table, replicas: int) -> None:
    """Take away what is too much: where most are, then the worst variant, then where memory is scarce.

    Before all of that comes what leaves the others spread as they should be.
    """
    rungs = {content.hash: rung for rung, content in enumerate(table.contents)}
    while table.counts.total() > replicas:
        dealt = [place for place, count in table.counts.items() if count]
        worst = max(
            dealt,
            key=lambda at: (
                -table.unevenness((at[0], -1)),
                table.on(at[0]),
                rungs[at[1]],
                -table.rooms.free(at[0]),
                *at,
            ),
        )
        table.counts[worst] -= 1
        table.takes[worst].pop()


def _grow(table: _Table, replicas: int, offers: Offers) -> bool:
    """Deal what is missing; whether there is no place for some of it, as far as all have answered."""
    by_hash = {content.hash: content for content in table.contents}
    asked_first = 0
    for node, rung in offers:
        if table.counts.total() >= replicas:
            return False
        content = by_hash[rung]
        if _takes(table, node, content):
            _put(table, node, content)
        elif asks_first(table, content, node):
            asked_first += 1  # its answer is a turn away, and the replica is not dealt elsewhere meanwhile
    while table.counts.total() + asked_first < replicas:
        offer = _best_offer(table)
        if offer is None:
            return not (asked_first or table.unasked)
        _put(table, *offer)
    return False


def _takes(table: _Table, node: str, content: Content) -> bool:
    """Whether the content may start on this node now, where the model has nothing yet."""
    return node not in table.own and _starts(table, node, content)


def _starts(table: _Table, node: str, content: Content) -> bool:
    """Whether the content may start on this node now."""
    seat = table.seats.get(node)
    if seat is None or not table.evens(node) or start_verdict(seat, table.spec) is not None:
        return False
    return not isinstance(_need(table, seat, content, table.rooms.room(node)), Verdict)


def _need(table: _Table, seat: Seat, content: Content, room: Room) -> Need | Verdict:
    """What one more replica would take there; or why it may not."""
    return need_on(table, content, seat, room=room, like=table.needs.get((seat.node.name, content.hash)))


def _put(table: _Table, node: str, content: Content) -> None:
    """Deal a replica to a node that has room for it."""
    room = table.rooms.room(node)
    need = _need(table, table.seats[node], content, room)
    if not isinstance(need, Verdict) and (take := room.spot(need)) is not None:
        _deal(table, node, content, need, take)


def _deal(table: _Table, node: str, content: Content, need: Need, take: Take) -> None:
    table.counts[node, content.hash] += 1
    table.needs[node, content.hash] = need
    table.takes[node, content.hash].append(take)
    table.own.add(node)
    table.rooms.take(node, take)


def _claim(table: _Table, model: Model, claims: Claims) -> None:
    """Places for what is missing where models of lower priority have to leave first, so that it costs them least."""
    while table.counts.total() < table.spec.replicas:
        found = min(_claimable(table, model, claims), key=lambda each: each.order, default=None)
        if found is None:
            return
        at_once = table.seats[found.node].has(found.content.artifact)
        claims.claim(model, found.sacrifice, at_once=at_once)
        _deal(table, found.node, found.content, found.need, found.take)
        table.claimed[found.node, found.content.hash].append(found.take)


def _try(table: _Table) -> None:
    """Places for what finds no other where only a start can tell whether there is room."""
    while table.counts.total() < table.spec.replicas:
        with table.ranking.walk() as ranked:
            found = next((place for node in islice(ranked, _TRIED) for place in _triable(table, node)), None)
        if found is None:
            return
        _deal(table, *found)


def _triable(table: _Table, node: str) -> Iterator[tuple[str, Content, Need, Take]]:
    """What of the model could be tried on a node where it has nothing yet, the best first.

    On accelerators only: there an engine takes all its memory when it starts, or fails. On a host what turns out to be
    too much would be taken from its neighbours, later.
    """
    room = table.rooms.room(node)
    for content in table.contents if room.devices and node not in table.own and table.evens(node) else ():
        need = need_on(table, content, table.seats[node], room=room, tight=True)
        if not isinstance(need, Verdict) and need.devices and (take := room.spot(need)) is not None:
            yield node, content, need, take


def _claimable(table: _Table, model: Model, claims: Claims) -> Iterator[_Claimable]:
    for node in claims.nodes():
        seat = table.seats[node]
        if not table.evens(node) or start_verdict(seat, table.spec) is not None:
            continue
        room = claims.room(node, model, table.rooms)
        for rung, content in enumerate(table.contents):
            need = _need(table, seat, content, room)
            if not isinstance(need, Verdict) and (take := room.spot(need)) is not None:
                sacrifice = claims.sacrifice(node, model, need, table.rooms)
                drawn = node in table.holders[content.hash]
                order = (table.on(node), *sacrifice.cost[:2], not drawn, sacrifice.cost[2], rung, node)
                yield _Claimable(order=order, node=node, content=content, need=need, take=take, sacrifice=sacrifice)


def _better(table: _Table) -> None:
    """Deal one replica of the worst variant anew, where a better one has room *beside* it.

    So nothing serves less meanwhile, and afterwards as much is free as the worse one needed. Replicas are not crowded
    together for it, none goes from an accelerator to a processor, and nothing is moved away from a node of which
    nothing is known.
    """
    worst = _worst(table)
    if worst is None:
        return
    at, content = worst
    better = _better_than(table, content)
    table.beside[at] -= 1
    offers = [(at, each) for each in better if _starts(table, at, each)]
    if not offers and (elsewhere := _best_offer(table)) is not None:
        offers = [elsewhere] if elsewhere[1] in better and not table.on(elsewhere[0]) else []
    table.beside[at] += 1
    offers = [each for each in offers if table.unevenness((at, -1), (each[0], 1)) <= table.unevenness()]
    accelerated = table.needs[at, content.hash].devices > 0
    for node, each in offers:
        need = _need(table, table.seats[node], each, table.rooms.room(node))
        if not isinstance(need, Verdict) and (need.devices or not accelerated):
            table.counts[at, content.hash] -= 1
            table.takes[at, content.hash].pop()
            _put(table, node, each)
            return


def _worst(table: _Table) -> tuple[str, Content] | None:
    """Node and content of a replica of the worst variant, of those on nodes whose agents are Known."""
    known = sorted(node for node in table.own if node in table.seats and table.seats[node].facts is not None)
    dealt = ((node, content) for content in reversed(table.contents) for node in known)
    return next(((node, content) for node, content in dealt if table.counts[node, content.hash]), None)


def _better_than(table: _Table, worst: Content) -> list[Content]:
    """Contents that would be worth a move, the best first."""
    least = quality(worst, table.spec) + _WORTH_A_MOVE
    return [content for content in table.contents if quality(content, table.spec) >= least]


def _wish(table: _Table, isas: Iterable[tuple[str, ...]]) -> int:
    """Bytes of the smallest content that would be worth a move from the worst that is dealt."""
    worst = _worst(table)
    better = _better_than(table, worst[1]) if worst is not None else ()
    return min((bytes_needed(content, isa) for content in better for isa in isas), default=0)


def _best_offer(table: _Table) -> tuple[str, Content] | None:
    """The node that the next replica goes to, and what it runs there."""
    offers = {node: content for node in sorted(table.own) if (content := _offer(table, node)) is not None}
    bar = len(table.contents)
    with table.ranking.walk() as ranked:
        for node in ranked:
            if node in table.own or node in table.refused:
                continue
            content = _offer(table, node)
            if content is not None:
                offers[node] = content
                bar = table.contents.index(content)
            scarce = table.rooms.free(node) < table.least and not table.rooms.room(node).devices
            if content is not None or scarce:
                break
    for node in _emptiest_holders(table):
        if node not in offers and (content := _offer(table, node)) is not None:
            offers[node] = content
    awaited = {node for node in table.unasked if table.evens(node)}
    if awaited:
        bar = 0
    drawn = {
        node
        for node, content in offers.items()
        if node in table.holders[content.hash] and table.contents.index(content) <= bar
    }
    best = min(
        offers.keys() | awaited,
        key=lambda node: (table.on(node), node not in drawn, -table.rooms.free(node), node),
        default=None,
    )
    # Where the best node has yet to answer, nothing is dealt elsewhere instead: a replica stays where it is put, and
    # an operator that has just started would put it elsewhere than the one before.
    return (best, offers[best]) if best in offers else None


def _emptiest_holders(table: _Table) -> list[str]:
    """Nodes that have one of the artifacts, some of them if they are many."""
    holders = frozenset[str]().union(*table.holders.values()) - table.own
    return nsmallest(_HOLDERS, holders, key=lambda node: (-table.rooms.free(node), node))


def _offer(table: _Table, node: str) -> Content | None:
    """The best content that may start on this node now. A node without one has none for the rest of the deal.

    Where only the spread is against it, that may change with the next replica that is dealt.
    """
    seat = table.seats.get(node)
    if seat is None or node in table.refused or not table.evens(node):
        return None
    if start_verdict(seat, table.spec) is None:
        room = table.rooms.room(node)
        for content in table.contents:
            if not isinstance(_need(table, seat, content, room), Verdict):
                if node not in table.unasked:
                    return content
                break  # a better one may be had here: the answer is a turn away
            if asks_first(table, content, node):
                table.unasked.add(node)
    table.refused[node] = None
    return None


def _large_enough(table: _Table) -> bool:
    """Whether the smallest of the contents would have room on a node that one more may go to, if that were empty."""
    if table.domains is None or table.least > table.ranking.largest:
        return table.least <= table.ranking.largest
    return any(
        start_verdict(seat, table.spec) is None
        and seat.facts is not None
        and table.least <= seat.facts.budget_bytes
        and table.evens(node)
        for node, seat in table.seats.items()
    )


def _explain(table: _Table) -> int:
    """Say of every variant why it is not on a node, for as many nodes as people read; how many that are."""
    interesting = [*sorted(table.own), *table.refused, *islice(table.seats, 2 * _EXPLAINED)]
    nodes = [node for node in dict.fromkeys(interesting) if node in table.seats][:_EXPLAINED]
    for node in nodes:
        _explain_node(table, table.seats[node])
    return len(nodes)


def _explain_node(table: _Table, seat: Seat) -> None:
    """What keeps each variant off this node, counting the room that the model itself has there."""
    node = seat.node.name
    blocked = start_verdict(seat, table.spec)
    room = _room_with_own(table, seat)
    short = table.counts.total() < table.spec.replicas
    uneven = table.domains.verdict(node, table.places()) if table.domains and (short or not table.on(node)) else None
    best: Content | None = None
    for content in table.contents:
        verdict = below_floor(content, table.spec) or blocked or uneven
        verdict = verdict or content_verdict(table, content, seat, room=room)
        if verdict is None and best is not None:
            verdict = Verdict(reason=Reason.OUTRANKED, message=f"{best.variant} is better and fits")
        elif verdict is None:
            best = content
        chosen = table.counts[node, content.hash] > 0
        if chosen and short:  # why not one more of it
            verdict = uneven or content_verdict(table, content, seat, room=table.rooms.room(node))
        if verdict is not None and (short or not chosen):
            table.refusals[content.variant, node] = verdict


def _room_with_own(table: _Table, seat: Seat) -> Room:
    """What a person compares with: the room this model has on the node, with what it already uses there."""
    node = seat.node.name
    own = [take for (at, _), takes in table.takes.items() if at == node for take in takes]
    return table.rooms.room(node).plus(own)


def _targets(table: _Table, kept: Mapping[tuple[str, str], ObservedSlot], release: Release) -> tuple[Target, ...]:
    by_hash = {content.hash: content for content in table.contents}
    return tuple(
        Target(
            node=node,
            content=by_hash[content],
            replicas=count,
            need=table.needs[node, content],
            kept=kept.get((node, content)),
            release=release.number,
            claimed=tuple(table.claimed[node, content]),
        )
        for (node, content), count in sorted(table.counts.items())
        if count
    )
