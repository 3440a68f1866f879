"""Which release a model should run, and when a new one has to be made.

A release is made when the set of resolved contents changes. Once a model has one, a ladder with an unresolved rung
makes no new one: what runs stays until the whole edit can be had. Only a model without any release starts with the
rungs that did resolve, once the others have been refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from roadstead.domain.model import Model, ModelSpec
from roadstead.domain.plan import Verdict
from roadstead.domain.release import Content, Release, contents_digest
from roadstead.domain.snapshot import EngineBuild, ObservedSlot, Pool
from roadstead.planner.builds import no_engine, serves
from roadstead.planner.engine_args import engine_args
from roadstead.planner.ladder import Ladder


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseChoice:
    """What to run now, and what to have numbered first."""

    release: Release | None
    previous: int | None
    make: tuple[Content, ...] = ()
    """Contents that wait for the ledger's number; empty if none do."""


def choose_release(
    model: Model,
    *,
    ladder: Ladder,
    pools: tuple[Pool, ...],
    releases: tuple[Release, ...],
    observed: tuple[ObservedSlot, ...],
) -> ReleaseChoice:
    """The release that the ladder stands for, or the last one while it stands for none."""
    serving = _serving(releases, observed)
    wanted = contents_of(model, ladder=ladder, pools=pools)
    if not wanted or (serving is not None and not ladder.complete) or not ladder.settled:
        return ReleaseChoice(release=serving, previous=_before(serving, releases))
    digest = contents_digest(wanted)
    match = next((release for release in releases if release.digest == digest), None)
    if match is not None:
        return ReleaseChoice(release=match, previous=_before(match, releases))
    return ReleaseChoice(release=serving, previous=_before(serving, releases), make=wanted)


def contents_of(model: Model, *, ladder: Ladder, pools: tuple[Pool, ...]) -> tuple[Content, ...]:
    """Every content the resolved rungs could run with the pools' engines, in the order of the ladder."""
    builds = selected_builds(model.checked_spec, pools)
    return tuple(
        Content(
            variant=rung.variant.name,
            source=rung.variant.source,
            quality=rung.variant.quality,
            artifact=rung.artifact,
            engine=build.engine,
            engine_image=build.identity,
            engine_args=engine_args(model.checked_spec.requirements),
            task=model.checked_spec.task,
            served_name=model.checked_spec.served_name,
            context_tokens=model.checked_spec.requirements.context_tokens,
            concurrency=model.checked_spec.requirements.concurrency,
        )
        for rung in ladder.rungs
        if rung.artifact is not None
        for build in builds
        if serves(build, rung.artifact.facts)
    )


def unserved(model: Model, *, ladder: Ladder, pools: tuple[Pool, ...]) -> dict[str, Verdict]:
    """By name, the resolved variants that no engine of the pools runs, each with why."""
    builds = selected_builds(model.checked_spec, pools)
    found = {
        rung.variant.name: no_engine(rung.artifact.facts, builds) for rung in ladder.rungs if rung.artifact is not None
    }
    return {name: verdict for name, verdict in found.items() if verdict is not None}


def selected_builds(spec: ModelSpec, pools: tuple[Pool, ...]) -> tuple[EngineBuild, ...]:
    """The engines of the pools that may serve the model, each build once, from whatever registry."""
    chosen = (pool for pool in pools if not spec.placement.pools or pool.name in spec.placement.pools)
    builds = {(build.engine, build.identity): build for pool in chosen for build in pool.engines}
    return tuple(build for _, build in sorted(builds.items()))


def forgettable(
    releases: tuple[Release, ...], *, keep: int, chosen: Release, observed: tuple[ObservedSlot, ...]
) -> tuple[Release, ...]:
    """Releases beyond the newest ``keep`` that are neither chosen nor served from."""
    used = {chosen.number, *(slot.release for slot in observed)}
    return tuple(release for release in releases[:-keep] if release.number not in used)


def stamped_release(releases: tuple[Release, ...], observed: tuple[ObservedSlot, ...]) -> Release | None:
    """The release that slots were last placed for; a ControllerRevision does not say which is used."""
    stamped = max((slot.release for slot in observed), default=None)
    return next((release for release in releases if release.number == stamped), None)


def _serving(releases: tuple[Release, ...], observed: tuple[ObservedSlot, ...]) -> Release | None:
    """What slots were last placed for, else the newest."""
    return stamped_release(releases, observed) or (releases[-1] if releases else None)


def _before(release: Release | None, releases: tuple[Release, ...]) -> int | None:
    if release is None:
        return None
    return max((other.number for other in releases if other.number < release.number), default=None)
