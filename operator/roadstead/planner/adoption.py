"""Which engine builds of a pool serve: what was adopted of what is offered.

Where workers are Pods, another image moves every slot of the pool, so ``spec.engines`` is only an offer. What serves is
what the record says, and nothing is adopted before it is recorded: the release made from an adoption must find the
same one after a crash. Adopted without asking is only what disturbs nothing: the first offer, an engine that the pool
did not have, the same image in another repository. An engine that is no longer offered is no longer adopted.

What an image can do is as the offer of that image says. The record keeps it, for an image that serves on while another
one is offered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from roadstead.domain.plan import RecordAdoption
from roadstead.domain.snapshot import Abilities, EngineBuild, FleetSnapshot, Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What the fleet's pools serve with."""

    pools: tuple[Pool, ...]
    """As in the snapshot, with ``engines`` what was adopted."""
    offered: Mapping[str, tuple[EngineBuild, ...]]
    """By pool: all that ``spec.engines`` names."""
    records: tuple[RecordAdoption, ...]
    """What has been adopted by now and is not recorded yet."""


def plan_adoption(snapshot: FleetSnapshot) -> Adoption:
    """The adopted builds of every pool, and the adoptions to record."""
    pools: list[Pool] = []
    records: list[RecordAdoption] = []
    for pool in snapshot.pools:
        if snapshot.workloads is None or pool.workers is None:
            pools.append(pool)
            continue
        recorded = snapshot.adoptions.get(pool.name)
        wanted = _adopted(pool, recorded or ())
        if recorded is None or _with_abilities(wanted) != _with_abilities(recorded):
            records.append(RecordAdoption(pool=pool.name, engines=wanted))
        pools.append(replace(pool, engines=_described(recorded or (), pool.engines)))
    return Adoption(
        pools=tuple(pools),
        offered={pool.name: pool.engines for pool in snapshot.pools},
        records=tuple(records),
    )


def waiting(offered: tuple[EngineBuild, ...], adopted: tuple[EngineBuild, ...]) -> tuple[EngineBuild, ...]:
    """Offers in place of another image, which only a person may accept."""
    serving = {build.engine: build.identity for build in adopted}
    return tuple(offer for offer in offered if serving.get(offer.engine, offer.identity) != offer.identity)


def _adopted(pool: Pool, recorded: tuple[EngineBuild, ...]) -> tuple[EngineBuild, ...]:
    serving = {build.engine: build for build in recorded}
    refused = {offer.engine for offer in waiting(pool.engines, recorded) if offer.identity != pool.adopt}
    return tuple(serving[offer.engine] if offer.engine in refused else offer for offer in pool.engines)


def _described(recorded: tuple[EngineBuild, ...], offered: tuple[EngineBuild, ...]) -> tuple[EngineBuild, ...]:
    offers = {(offer.engine, offer.identity): offer for offer in offered}
    return tuple(build.described_as(offers.get((build.engine, build.identity), build)) for build in recorded)


def _with_abilities(builds: tuple[EngineBuild, ...]) -> tuple[tuple[EngineBuild, Abilities], ...]:
    return tuple((build, build.abilities) for build in builds)
