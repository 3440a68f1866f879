"""Why a model runs where it runs, and where one could run that nobody has applied.

Where a slot is there already it stays, whatever would be best now: what was passed over for it is told all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from roadstead.domain.explanation import Choice, Explanation, Fit, NoSuchModel, Option, Rung
from roadstead.domain.model import ConditionStatus, Model, ModelKey
from roadstead.domain.plan import ModelReport, QualityOrigin, Verdict
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Content
from roadstead.domain.snapshot import FleetSnapshot, Resolving
from roadstead.domain.supposition import Place
from roadstead.planner.builds import no_engine
from roadstead.planner.fleet import plan
from roadstead.planner.ladder import Askable, Ladder, resolve_ladder
from roadstead.planner.ladder import Rung as LadderRung
from roadstead.planner.needs import Take
from roadstead.planner.options import Look
from roadstead.planner.quality import best_first, figure
from roadstead.planner.releases import choose_release, contents_of, selected_builds
from roadstead.planner.rest import Rest
from roadstead.planner.rooms import Rooms
from roadstead.planner.spread import Topology
from roadstead.planner.survey import Survey, survey
from roadstead.planner.verdicts import Case
from roadstead.planner.view import configured
from roadstead.planner.ways import best_way
from roadstead.planner.wishes import with_wishes
from roadstead.planner.worth import worth_of

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
    look = Look(
        spec=spec,
        contents=contents,
        worth=dict(zip(contents, worth_of(contents, spec), strict=True)),
        places=report.places,
        seen=seen,
        rooms=_rooms(report, planned.reports, seen),
        domains=Topology(seen.seats).of(spec),
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
        rungs=_rungs(look, report.model, ladder),
        options=options,
        choices=_choices(look, options),
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
        there = {(slot.node, slot.content): slot.replicas for slot in seen.view.slots_of(other.model.key)}
        for place in other.places:
            content, more = seen.view.content(place.content), place.replicas - there.get((place.node, place.content), 0)
            if more > 0 and content is not None:
                seat = seen.seats[place.node]
                need = best_way(content, seat, seen.view)
                for _ in range(more):
                    rooms.take(place.node, rooms.room(place.node).spot(need) or Take(need.host))
    return rooms


def _rungs(look: Look, model: Model, ladder: Ladder) -> tuple[Rung, ...]:
    """Those that there are contents of, the best first, then the others as the spec has them."""
    found = {
        content.variant: Rung(
            variant=content.variant,
            bytes=content.artifact.bytes,
            quality=look.worth[content].quality,
            origin=figure(content, look.spec).origin,
            verdict=None,
        )
        for content in reversed(look.contents)
    }
    others = tuple(
        Rung(
            variant=rung.variant.name,
            bytes=rung.artifact.bytes if rung.artifact is not None else 0,
            quality=rung.variant.quality,
            origin=QualityOrigin.GIVEN if rung.variant.quality is not None else None,
            verdict=_against(rung, model, look.seen),
        )
        for rung in ladder.rungs
        if rung.variant.name not in found
    )
    return (*reversed(found.values()), *others)


def _against(rung: LadderRung, model: Model, seen: Survey) -> Verdict:
    """Why there is no content of a variant."""
    if rung.artifact is None:
        return rung.verdict
    waits = Verdict(reason=Reason.RESOLVING, message="waits until the spec's other variants are resolved")
    return no_engine(rung.artifact.facts, selected_builds(model.checked_spec, seen.view.snapshot.pools)) or waits


def _choices(look: Look, options: tuple[Option, ...]) -> tuple[Choice, ...]:
    """Each place with the best of what else might have been."""
    contents = {content.hash: content for content in look.contents}
    return tuple(
        Choice(
            place=place,
            terms=look.terms(contents[place.content], place.node) if place.content in contents else (),
            passed_over=_passed_over(look, place, options),
        )
        for place in sorted(look.places)
        if place.replicas
    )


def _passed_over(look: Look, place: Place, options: tuple[Option, ...]) -> tuple[Option, ...]:
    """What is worth most first; of what is worth the same, on the same node."""
    refused = [
        each if each.verdict.reason is not Reason.CHOSEN else replace(each, verdict=look.against_another(each))
        for each in options
        if each.verdict.reason is not Reason.CHOSEN or place.node not in each.nodes
    ]
    ranked = sorted(refused, key=lambda each: (-round(each.worth, 6), place.node not in each.nodes))
    return tuple(_led_by(each, place.node) for each in ranked[:_PASSED_OVER])


def _led_by(option: Option, node: str) -> Option:
    """The same with this node first, if it is one of them."""
    if node not in option.nodes:
        return option
    return replace(option, nodes=(node, *(each for each in option.nodes if each != node)))
