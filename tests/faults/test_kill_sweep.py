"""Wherever the operator is killed in a model's life, the fleet ends in the same world.

On real parts: API server, Postgres, the operator as a process; only the doors are simulated. A dozen points a run,
another dozen each day, so that all have had their turn within a fortnight. ``ROADSTEAD_SWEEP_POINTS`` chooses: ``all``,
or some like ``17:before,40:after``. All points with everything in memory run in ``tests/unit``.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from roadstead_migrations import runner
from tests.fixtures.control_plane import RunningControlPlane
from tests.fixtures.figures import Say
from tests.simulation.calls import DEATHS, Cut
from tests.simulation.journal import Point
from tests.simulation.lifetime import CONVERGED_SECONDS, Life, RealParts
from tests.simulation.scenario import LIFE

pytestmark = pytest.mark.faults

MOST_CALLS = 64
"""The mutating calls of the whole life, Leases apart; it may only fall. On a machine at rest there are 61, and one or
two statuses more where a look falls between two things that mostly happen together."""
_A_RUN = 12
_OF_THE_HEIR = 30
"""In the middle of a change of content."""
_CHOSEN = os.environ.get("ROADSTEAD_SWEEP_POINTS", "")


def points(chosen: str, *, day: int) -> list[Point]:
    """The points of this run, spread over the whole life."""
    every = [Point(number, side) for number in range(1, MOST_CALLS + 1) for side in DEATHS]
    if chosen == "all":
        return every
    if chosen:
        return [Point.parse(text) for text in chosen.split(",")]
    stride = -(-len(every) // _A_RUN)
    return every[day % stride :: stride]


@pytest.fixture(scope="session")
def parts(plane: RunningControlPlane, postgres_server: URL) -> Iterator[RealParts]:
    """An API server that knows our kinds, and a ledger."""
    runner.upgrade(postgres_server)
    folder = Path(tempfile.mkdtemp(prefix="rs-sweep-"))
    try:
        yield RealParts(kubeconfig=plane.kubeconfig, database=postgres_server, folder=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def undisturbed(parts: RealParts) -> Life:
    """The life in which nobody dies."""
    life = Life(parts, "undisturbed")
    asyncio.run(life.play())
    return life


def test_a_life_takes_no_more_calls_than_before(undisturbed: Life, say: Say) -> None:
    calls = undisturbed.journal.calls
    by_step = ", ".join(f"{name} {number}" for name, number in undisturbed.steps.items())
    say(f"mutating calls of a model's life: {len(calls)} of {MOST_CALLS} ({by_step})")

    assert len(calls) <= MOST_CALLS, "\n".join(calls)
    assert undisturbed.worlds.keys() == {step.name for step in LIFE}
    assert not undisturbed.replicas.excess


@pytest.mark.parametrize("point", points(_CHOSEN, day=datetime.now(UTC).toordinal()), ids=str)
def test_killed_there_the_operator_still_brings_about_the_same_world(
    parts: RealParts, undisturbed: Life, point: Point, say: Say
) -> None:
    life = Life(parts, f"killed-{point.number}-{point.side}", point=point, as_in=undisturbed.worlds)
    began = time.monotonic()

    asyncio.run(life.play())

    if not life.journal.died_at:
        pytest.skip(f"this life had only {len(life.journal.calls)} calls")
    say(
        f"killed {point.side} call {point.number}, {life.journal.died_at}: converged after "
        f"{life.converged_seconds:.1f} s, whole life {time.monotonic() - began:.0f} s, {life.replicas.samples} samples"
    )
    assert life.converged_seconds < CONVERGED_SECONDS
    assert not life.replicas.excess
    assert not life.orphans


def test_killed_for_good_the_operator_has_an_heir_in_another_pod(parts: RealParts, undisturbed: Life) -> None:
    """It waits until the Lease has expired, and then goes on from the world as it is."""
    life = Life(parts, "inherited", point=Point(_OF_THE_HEIR, Cut.AFTER), heir="another-pod", as_in=undisturbed.worlds)

    asyncio.run(life.play())

    assert life.journal.died_at
    assert life.converged_seconds < CONVERGED_SECONDS
    assert not life.replicas.excess
