"""Models that nobody has applied, put into a picture of the fleet as if they had been for a while.

That is: with our finalizer, and with the release that the operator would have had numbered by then. Where that waits
for an answer about a source, so does the model in the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from roadstead.domain.model import Model
from roadstead.domain.release import Artifact, Release
from roadstead.domain.snapshot import FleetSnapshot
from roadstead.domain.supposition import Wish
from roadstead.planner.ladder import Askable, Ladder, resolve_ladder, resolved
from roadstead.planner.releases import choose_release
from roadstead.planner.survey import Survey, survey
from roadstead.planner.view import configured


def with_wishes(
    snapshot: FleetSnapshot, wishes: Iterable[Wish], now: datetime, *, known: Mapping[str, Artifact] | None = None
) -> FleetSnapshot:
    """The picture with these models, in place of those of the same name. ``known`` is what is behind sources."""
    models = {model.key: model for model in snapshot.models}
    wanted = [_applied(models.get(wish.key), wish, now) for wish in wishes]
    if not wanted:
        return snapshot
    models |= {model.key: model for model in wanted}
    snapshot = replace(snapshot, models=tuple(models.values()))
    seen = survey(snapshot)
    releases = {model.uid: _releases(model, seen, now, known or {}) for model in wanted}
    return replace(snapshot, releases={**snapshot.releases, **releases})


def _applied(model: Model | None, wish: Wish, now: datetime) -> Model:
    if model is None:
        # An uid that no API server gives, and always the same: equal questions have equal answers.
        return Model(
            key=wish.key,
            uid=f"supposed {wish.key}",
            resource_version="",
            generation=1,
            created=now,
            finalized=True,
            spec=wish.spec,
        )
    measured = model.spec.measured if model.spec is not None else wish.spec.measured
    spec = replace(wish.spec, measured=measured)  # what was measured stands beside the spec
    return replace(model, generation=model.generation + 1, finalized=True, spec=spec, problems=())


def _releases(model: Model, seen: Survey, now: datetime, known: Mapping[str, Artifact]) -> tuple[Release, ...]:
    snapshot = seen.view.snapshot
    kept = snapshot.releases.get(model.uid, ())
    ladder = resolve_ladder(model, snapshot=snapshot, askable=Askable(seen.seats), now=now)
    choice = choose_release(
        model,
        ladder=_with_known(ladder, known),
        pools=snapshot.pools,
        releases=kept,
        observed=configured(seen.view.slots_of(model.key)),
    )
    if not choice.make:
        return kept
    return (*kept, Release(number=kept[-1].number + 1 if kept else 1, contents=choice.make))


def _with_known(ladder: Ladder, known: Mapping[str, Artifact]) -> Ladder:
    rungs = tuple(
        resolved(rung.variant, known[rung.variant.source]) if rung.variant.source in known else rung
        for rung in ladder.rungs
    )
    return replace(ladder, rungs=rungs)
