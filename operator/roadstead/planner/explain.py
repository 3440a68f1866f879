"""Why a model runs where it runs: every variant looked at on every node, and told by kind of node.

The verdicts are those that placement goes by. What is told besides (speed, quality, what a replica is worth) is what
decides between nodes and variants that are fit; where a slot is there already it stays, whatever would be best now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from roadstead.domain.explanation import Choice, Explanation, Fit, NoSuchModel, Option, Rung, Term
from roadstead.domain.model import ConditionStatus, ModelKey, ModelSpec
from roadstead.domain.plan import ModelReport, Verdict
from roadstead.domain.quantity import in_words
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Content
from roadstead.domain.snapshot import FleetSnapshot, Resolving
from roadstead.domain.supposition import Place
from roadstead.planner.fleet import plan
from roadstead.planner.ladder import Askable, Ladder, resolve_ladder
from roadstead.planner.ladder import Rung as LadderRung
from roadstead.planner.needs import memory_of
from roadstead.planner.nodes import Seat, start_verdict
from roadstead.planner.quality import below_floor, best_first, quality_given
from roadstead.planner.releases import choose_release, contents_of
from roadstead.planner.rest import Rest
from roadstead.planner.rooms import Rooms
from roadstead.planner.speed import speed_on
from roadstead.planner.survey import Survey, survey
from roadstead.planner.verdicts import Case, asks_first, content_verdict
from roadstead.planner.view import configured
from roadstead.planner.wishes import with_wishes
from roadstead.planner.worth import FOR_WEIGHTS, SERVED, Worth, worth_of

_PASSED_OVER = 3
"""Options that are told of for each choice."""


def explain(snapshot: FleetSnapshot, now: datetime, key: ModelKey, rest: Rest | None = None) -> Explanation:
    """Of a model that there is; ``NoSuchModel``. ``rest`` saves work and is left as it is."""
    planned = plan(snapshot, now, rest.copy() if rest is not None else None)
    report = next((each for each in planned.reports if each.model.key == key), None)
    if report is None:
        raise NoSuchModel(str(key))
    spec = report.model.spec
    if spec is None or report.model.deleting:
        return Explanation(model=key, wanted=0, pending=0, why=_said(report, "Accepted", "Ready"))
    seen = survey(snapshot)
    ladder = resolve_ladder(report.model, snapshot=snapshot, askable=Askable(seen.seats), now=now)
    contents = _contents(report, ladder, seen)
    look = _Look(
        spec=spec,
        contents=contents,
        worth=dict(zip(contents, worth_of(contents, spec), strict=True)),
        report=report,
        seen=seen,
        rooms=_rooms(report, planned.reports, seen),
        case=Case(
            spec=spec,
            view=seen.view,
            now=now,
            serving=frozenset(slot.node for slot in configured(seen.view.slots_of(key))),
        ),
    )
    options = look.options()
    return Explanation(
        model=key,
        wanted=spec.replicas,
        pending=report.pending,
        why=_said(report, "Resolved", "Placed") if report.pending else "",
        rungs=look.rungs(ladder),
        options=options,
        choices=look.choices(options),
        questions=tuple(
            question
            for question in (*(each.key for each in ladder.questions), *look.case.questions)
            if not isinstance(snapshot.resolutions.get(question), Resolving)  # whoever asked is following it
        ),
    )


def explain_fit(snapshot: FleetSnapshot, now: datetime, fit: Fit, rest: Rest | None = None) -> Explanation:
    """Of a model that nobody has applied, as if somebody had. ``rest`` saves work and is left as it is."""
    return explain(with_wishes(snapshot, (fit.wish,), now, known=dict(fit.known)), now, fit.wish.key, rest)


def _said(report: ModelReport, *conditions: str) -> str:
    rows = [row for row in report.conditions if row.type in conditions and row.status is not ConditionStatus.TRUE]
    return "; ".join(row.message for row in rows)


def _contents(report: ModelReport, ladder: Ladder, seen: Survey) -> tuple[Content, ...]:
    """What the model runs or could run next, the best first; before any release, what is known of its variants."""
    snapshot, model = seen.view.snapshot, report.model
    choice = choose_release(
        model,
        ladder=ladder,
        pools=snapshot.pools,
        releases=snapshot.releases.get(model.uid, ()),
        observed=configured(seen.view.slots_of(model.key)),
    )
    current = choice.release.contents if choice.release is not None else ()
    able = contents_of(model, ladder=ladder, pools=snapshot.pools)
    return best_first(choice.make or current or able, model.checked_spec)


def _rooms(report: ModelReport, reports: Iterable[ModelReport], seen: Survey) -> Rooms:
    """What is free for the model: without its own slots, and with what the plan gives to others and nobody has yet."""
    rooms = seen.rooms.after_leaving(configured(seen.view.slots_of(report.model.key)))
    for other in reports:
        if other.model.key == report.model.key:
            continue
        there = {(slot.node, slot.content) for slot in seen.view.slots_of(other.model.key)}
        for place in other.places:
            content = seen.view.content(place.content)
            if (place.node, place.content) not in there and content is not None:
                rooms.take(place.node, place.replicas * memory_of(content, seen.seats[place.node]))
    return rooms


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One model, as it is looked at on every node."""

    spec: ModelSpec
    contents: tuple[Content, ...]
    worth: Mapping[Content, Worth]
    report: ModelReport
    seen: Survey
    rooms: Rooms
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
        for place in self.report.places:
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
        if unfit is not None:
            return unfit
        verdict = content_verdict(self.case, content, seat, room=self.rooms.free(seat.node.name))
        if verdict is not None and asks_first(self.case, content, seat.node.name):
            return Verdict(reason=Reason.RESOLVING, message="nobody has looked for its file there yet")
        return verdict

    def _chosen(self, content: Content, seat: Seat, against: Verdict | None) -> Verdict:
        words = f"a replica needs {in_words(memory_of(content, seat))}"
        if seat.facts is not None:
            words += f" of {in_words(seat.facts.budget_bytes)}"
        there = any(slot.content == content.hash for slot in configured(self.seen.view.slots_on(seat.node.name)))
        if against is not None and there:
            words += f"; would not be started there now: {against.message}"
        elif against is not None and against.reason is Reason.INSUFFICIENT_RAM:
            words += "; models of lower priority give way to it"
        return Verdict(reason=Reason.CHOSEN, message=words)

    def _fits(self, content: Content, seat: Seat) -> Verdict:
        needed, free = in_words(memory_of(content, seat)), in_words(self.rooms.free(seat.node.name))
        return Verdict(reason=Reason.FITS, message=f"needs {needed}, {free} are free")

    def _option(self, content: Content, seat: Seat, verdict: Verdict, replicas: int) -> Option:
        facts, node = seat.facts, seat.node.name
        speed = speed_on(content, facts, self.seen.view) if facts is not None else None
        return Option(
            variant=content.variant,
            pool=seat.pool.name if seat.pool is not None else "",
            nodes=(node,),
            verdict=verdict,
            replicas=replicas,
            needed_bytes=memory_of(content, seat),
            measured_bytes=dict(facts.measured_bytes).get(content.hash, 0) if facts is not None else 0,
            free_bytes=self.rooms.free(node) if facts is not None else None,
            budget_bytes=facts.budget_bytes if facts is not None else None,
            tokens_per_second=speed.tokens_per_second if speed is not None else None,
            measured=speed is not None and speed.measured,
            terms=self._terms(content, node),
        )

    def _terms(self, content: Content, node: str) -> tuple[Term, ...]:
        worth = self.worth[content]
        held = node in self.seen.view.holders(content.artifact.digest)
        return (
            Term("served", SERVED),
            Term("quality", worth.quality),
            Term("rung", worth.rung),
            Term("weights", FOR_WEIGHTS if held else 0.0),
        )

    def rungs(self, ladder: Ladder) -> tuple[Rung, ...]:
        """Those that there are contents of, the best first, then the others as the spec has them."""
        found = {
            content.variant: Rung(
                variant=content.variant,
                bytes=content.artifact.bytes,
                quality=self.worth[content].quality,
                given=quality_given(content, self.spec) is not None,
                verdict=None,
            )
            for content in reversed(self.contents)
        }
        others = tuple(
            Rung(
                variant=rung.variant.name,
                bytes=rung.artifact.bytes if rung.artifact is not None else 0,
                quality=rung.variant.quality,
                given=rung.variant.quality is not None,
                verdict=self._of_rung(rung),
            )
            for rung in ladder.rungs
            if rung.variant.name not in found
        )
        return (*reversed(found.values()), *others)

    def _of_rung(self, rung: LadderRung) -> Verdict:
        """Why no content of a variant can run."""
        if rung.artifact is None:
            return rung.verdict
        pools = self.seen.view.snapshot.pools
        if contents_of(self.report.model, ladder=Ladder(rungs=(rung,), questions=()), pools=pools):
            return Verdict(reason=Reason.RESOLVING, message="waits until the spec's other variants are resolved")
        kind = rung.artifact.facts.format
        return Verdict(reason=Reason.NO_FORMAT_ENGINE, message=f"no pool that it may use has an engine for {kind}")

    def choices(self, options: tuple[Option, ...]) -> tuple[Choice, ...]:
        """Each place with the best of what else might have been."""
        contents = {content.hash: content for content in self.contents}
        return tuple(
            Choice(
                place=place,
                terms=self._terms(contents[place.content], place.node) if place.content in contents else (),
                passed_over=self._passed_over(place, options),
            )
            for place in sorted(self.report.places)
            if place.replicas
        )

    def _passed_over(self, place: Place, options: tuple[Option, ...]) -> tuple[Option, ...]:
        """What is worth most first; of what is worth the same, on the same node."""
        refused = [each for each in options if each.verdict.reason is not Reason.CHOSEN]
        refused += [more for each in options if (more := self._one_more(each, place)) is not None]
        ranked = sorted(refused, key=lambda each: (-round(each.worth, 6), place.node not in each.nodes))
        return tuple(_led_by(each, place.node) for each in ranked[:_PASSED_OVER])

    def _one_more(self, option: Option, place: Place) -> Option | None:
        """Why the replica is not where others of the model are."""
        if option.verdict.reason is not Reason.CHOSEN or place.node in option.nodes:
            return None
        verdict = Verdict(reason=Reason.OUTRANKED, message="has a replica already: nodes without one come first")
        if option.free_bytes is not None and option.budget_bytes is not None:
            left = option.free_bytes - option.replicas // len(option.nodes) * option.needed_bytes
            if left < option.needed_bytes:
                short = f"{in_words(max(0, left))} of {in_words(option.budget_bytes)} are left beside its replica"
                verdict = Verdict(
                    reason=Reason.INSUFFICIENT_RAM,
                    message=f"another needs {in_words(option.needed_bytes)}, {short}",
                )
        return replace(option, verdict=verdict, replicas=0)


def _together(options: list[Option]) -> Option:
    """One for nodes that are alike, with the figures of the emptiest."""
    ranked = sorted(options, key=lambda each: (-(each.free_bytes or 0), each.nodes))
    nodes = tuple(node for each in ranked for node in each.nodes)
    return replace(ranked[0], nodes=nodes, replicas=sum(each.replicas for each in options))


def _led_by(option: Option, node: str) -> Option:
    """The same with this node first, if it is one of them."""
    if node not in option.nodes:
        return option
    return replace(option, nodes=(node, *(each for each in option.nodes if each != node)))
