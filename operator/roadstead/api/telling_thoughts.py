"""From what was thought through to answers: why, what if, and where something would fit. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from roadstead.api import answers
from roadstead.api.telling import Origin
from roadstead.domain.explanation import Explanation, Option, Rung, Term
from roadstead.domain.supposition import Difference, Place
from roadstead.services.outlook import Planned


def explain_answer(origin: Origin, told: Explanation) -> answers.ExplainAnswer:
    return answers.ExplainAnswer(model=_explanation(told), **origin)


def fit_answer(origin: Origin, told: Explanation) -> answers.FitAnswer:
    placed = not told.pending and not told.why
    return answers.FitAnswer(model=_explanation(told), placed=placed, **origin)


def what_if_answer(planned: Planned, origin: Origin, found: Sequence[Difference]) -> answers.WhatIfAnswer:
    return answers.WhatIfAnswer(
        models=tuple(
            answers.Difference(
                namespace=each.model.namespace,
                name=each.model.name,
                stops=_places(each.stops),
                starts=_places(each.starts),
                pending=each.pending,
                pending_then=each.pending_then,
                why=each.why,
            )
            for each in found
        ),
        unchanged=len({model.key for model in planned.snapshot.models} - {each.model for each in found}),
        **origin,
    )


def _explanation(told: Explanation) -> answers.Explanation:
    return answers.Explanation(
        namespace=told.model.namespace,
        name=told.model.name,
        wanted=told.wanted,
        pending=told.pending,
        why=told.why,
        variants=tuple(_rung(rung) for rung in told.rungs),
        options=tuple(_option(option) for option in told.options),
        choices=tuple(
            answers.Choice(
                node=each.place.node,
                variant=each.place.variant,
                replicas=each.place.replicas,
                worth=round(sum(term.value for term in each.terms), 4),
                terms=_terms(each.terms),
                passed_over=tuple(_option(option) for option in each.passed_over),
            )
            for each in told.choices
        ),
    )


def _rung(rung: Rung) -> answers.Rung:
    return answers.Rung(
        name=rung.variant,
        bytes=rung.bytes,
        quality=None if rung.quality is None else round(rung.quality, 3),
        quality_origin=rung.origin,
        verdict=rung.verdict.reason if rung.verdict is not None else "",
        message=rung.verdict.message if rung.verdict is not None else "",
    )


def _option(option: Option) -> answers.Option:
    speed = option.tokens_per_second
    return answers.Option(
        variant=option.variant,
        pool=option.pool,
        nodes=len(option.nodes),
        example=option.nodes[0],
        verdict=option.verdict.reason,
        message=option.verdict.message,
        replicas=option.replicas,
        needed_bytes=option.needed_bytes,
        devices=option.devices,
        device_bytes=option.device_bytes,
        device_free_bytes=option.device_free_bytes,
        measured_bytes=option.measured_bytes,
        free_bytes=option.free_bytes,
        budget_bytes=option.budget_bytes,
        tokens_per_second=None if speed is None else round(speed, 1),
        speed_from=option.speed_basis.capitalize(),
        worth=round(option.worth, 4),
        terms=_terms(option.terms),
    )


def _terms(terms: Sequence[Term]) -> tuple[answers.Term, ...]:
    """Rounded, and a zero has no sign."""
    return tuple(answers.Term(name=term.name, value=round(term.value, 4) + 0.0) for term in terms)


def _places(places: Sequence[Place]) -> tuple[answers.Place, ...]:
    return tuple(answers.Place(node=each.node, variant=each.variant, replicas=each.replicas) for each in places)
