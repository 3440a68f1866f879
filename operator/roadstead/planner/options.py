"""One model on every node: each variant with a verdict and with the figures that decide between those that fit.

The verdicts are those that placement goes by. Nodes that are alike are told together: people read no more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from roadstead.domain.explanation import Option, Term
from roadstead.domain.model import ModelSpec
from roadstead.domain.plan import Verdict
from roadstead.domain.quantity import in_words
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Content
from roadstead.domain.supposition import Place
from roadstead.planner.needs import Need, Take, need_of_slot
from roadstead.planner.nodes import Seat, start_verdict
from roadstead.planner.quality import below_floor
from roadstead.planner.rooms import Rooms
from roadstead.planner.speed import speed_on
from roadstead.planner.spread import Domains
from roadstead.planner.survey import Survey
from roadstead.planner.verdicts import Case, asks_first, content_verdict, devices_for, need_on
from roadstead.planner.view import configured
from roadstead.planner.ways import best_way
from roadstead.planner.worth import FOR_ACCELERATORS, FOR_WEIGHTS, SERVED, Worth


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One model, as it is looked at on every node."""

    spec: ModelSpec
    contents: tuple[Content, ...]
    worth: Mapping[Content, Worth]
    places: tuple[Place, ...]
    """Where the model's replicas should be."""
    seen: Survey
    rooms: Rooms
    domains: Domains | None
    case: Case

    def options(self) -> tuple[Option, ...]:
        """Nodes that are alike together."""
        groups: defaultdict[tuple[object, ...], list[Option]] = defaultdict(list)
        ladder = {content.variant: index for index, content in reversed(list(enumerate(self.contents)))}
        for seat in self.seen.seats.values():
            for option in self._on(seat):
                size = (option.budget_bytes or 0).bit_length()
                alike = (option.variant, option.pool, size, option.needed_bytes, option.verdict.reason)
                groups[alike].append(option)
        found = [_together(options) for options in groups.values()]
        chosen = Reason.CHOSEN
        return tuple(
            sorted(
                found,
                key=lambda each: (ladder[each.variant], each.verdict.reason is not chosen, each.pool, each.nodes[0]),
            )
        )

    def against_another(self, option: Option) -> Verdict:
        """Why there is no further replica where there is one already."""
        seat = self.seen.seats[option.nodes[0]]
        placed = self._placed_on(seat.node.name)
        content, _ = self._content(option.variant, seat, placed)
        room = self.rooms.room(seat.node.name)
        for each in self.contents:
            for _ in range(placed.get(each.hash, 0)):
                need = self._need(each, seat)
                room = room.less([room.spot(need) or Take(need.host)])
        unfit = start_verdict(seat, self.spec) or self._uneven(seat)
        verdict = unfit or content_verdict(self.case, content, seat, room=room)
        words = "has a replica already: nodes without one come first"
        return verdict or Verdict(reason=Reason.OUTRANKED, message=words)

    def _on(self, seat: Seat) -> Iterable[Option]:
        """Every variant on one node."""
        placed = self._placed_on(seat.node.name)
        best = ""
        for variant in dict.fromkeys(content.variant for content in self.contents):
            content, against = self._content(variant, seat, placed)
            replicas = placed.get(content.hash, 0)
            if replicas:
                verdict = self._chosen(content, seat, against)
            elif against is not None:
                verdict = against
            elif best:
                verdict = Verdict(reason=Reason.OUTRANKED, message=f"{best} is better and fits")
            else:
                verdict = self._fits(content, seat)
            if replicas or against is None:
                best = best or variant
            yield self._option(content, seat, verdict, replicas)

    def _placed_on(self, node: str) -> Mapping[str, int]:
        """Replicas by content hash."""
        found: defaultdict[str, int] = defaultdict(int)
        for place in self.places:
            if place.node == node:
                found[place.content] += place.replicas
        return found

    def _content(self, variant: str, seat: Seat, placed: Mapping[str, int]) -> tuple[Content, Verdict | None]:
        """The content of a variant that is there, else one that might be; and what speaks against it.

        There are several where pools have different builds of an engine.
        """

        def rank(looked: tuple[Content, Verdict | None]) -> int:
            content, verdict = looked
            if content.hash in placed:
                return 0
            return 1 if verdict is None else 3 if verdict.reason is Reason.ENGINE_UNAVAILABLE else 2

        contents = [content for content in self.contents if content.variant == variant]
        return min(((content, self._verdict(content, seat)) for content in contents), key=rank)

    def _verdict(self, content: Content, seat: Seat) -> Verdict | None:
        unfit = below_floor(content, self.spec) or start_verdict(seat, self.spec)
        if unfit is None and not self._placed_on(seat.node.name):
            unfit = self._uneven(seat)
        if unfit is not None:
            return unfit
        verdict = content_verdict(self.case, content, seat, room=self.rooms.room(seat.node.name))
        if verdict is not None and asks_first(self.case, content, seat.node.name):
            return Verdict(reason=Reason.RESOLVING, message="nobody has looked for its file there yet")
        return verdict

    def _uneven(self, seat: Seat) -> Verdict | None:
        """Why the spread has no further replica there, if it has none."""
        if self.domains is None:
            return None
        return self.domains.verdict(seat.node.name, ((place.node, place.replicas) for place in self.places))

    def _chosen(self, content: Content, seat: Seat, against: Verdict | None) -> Verdict:
        need = self._need(content, seat)
        words = f"a replica needs {need}"
        if seat.facts is not None and not need.devices:
            words += f" of {in_words(seat.facts.budget_bytes)}"
        there = any(slot.content == content.hash for slot in configured(self.seen.view.slots_on(seat.node.name)))
        if against is not None and there:
            words += f"; would not be started there now: {against.message}"
        elif against is not None and against.reason is Reason.INSUFFICIENT_RAM:
            words += "; models of lower priority give way to it"
        return Verdict(reason=Reason.CHOSEN, message=words)

    def _fits(self, content: Content, seat: Seat) -> Verdict:
        need, room = self._need(content, seat), self.rooms.room(seat.node.name)
        free = in_words(max(0, room.host))
        if need.devices:
            free = f"{in_words(room.emptiest)} and {free}"
        return Verdict(reason=Reason.FITS, message=f"needs {need}, {free} are free")

    def _need(self, content: Content, seat: Seat) -> Need:
        """Of a replica that is there; else as one would be started there, or if it may not as it would be best."""
        there = configured(self.seen.view.slots_on(seat.node.name))
        standing = next((slot for slot in there if slot.content == content.hash), None)
        if standing is not None:
            return need_of_slot(standing)
        need = need_on(self.case, content, seat, room=self.rooms.room(seat.node.name))
        if not isinstance(need, Verdict):
            return need
        return best_way(content, seat, self.seen.view)

    def _option(self, content: Content, seat: Seat, verdict: Verdict, replicas: int) -> Option:
        facts, node = seat.facts, seat.node.name
        need, room = self._need(content, seat), self.rooms.room(node)
        devices = devices_for(need, facts) if facts is not None else ()
        speed = speed_on(content, facts, self.seen.view, devices) if facts is not None else None
        return Option(
            variant=content.variant,
            pool=seat.pool.name if seat.pool is not None else "",
            nodes=(node,),
            verdict=verdict,
            replicas=replicas,
            needed_bytes=need.host,
            devices=need.devices,
            device_bytes=need.each,
            device_free_bytes=room.emptiest,
            measured_bytes=dict(facts.measured_bytes).get(content.hash, 0) if facts is not None else 0,
            free_bytes=self.rooms.free(node) if facts is not None else None,
            budget_bytes=facts.budget_bytes if facts is not None else None,
            tokens_per_second=speed.value if speed is not None else None,
            speed_basis=speed.basis if speed is not None else "",
            terms=self.terms(content, node),
        )

    def terms(self, content: Content, node: str) -> tuple[Term, ...]:
        """What a replica is worth there."""
        seat = self.seen.seats.get(node)
        on_devices = seat is not None and self._need(content, seat).devices > 0
        worth = self.worth[content]
        held = node in self.seen.view.holders(content.artifact.digest)
        return (
            Term("served", SERVED),
            Term("quality", worth.quality),
            Term("rung", worth.rung),
            Term("weights", FOR_WEIGHTS if held else 0.0),
            *((Term("accelerators", FOR_ACCELERATORS),) if on_devices else ()),
        )


def _together(options: list[Option]) -> Option:
    """One for nodes that are alike, with the figures of the emptiest."""
    ranked = sorted(options, key=lambda each: (-(each.free_bytes or 0), each.nodes))
    nodes = tuple(node for each in ranked for node in each.nodes)
    return replace(ranked[0], nodes=nodes, replicas=sum(each.replicas for each in options))
