"""Two operators, of which each believes that it leads, or neither: what the one that does not lead does is harmless.

On real parts, as in the other tests of faults; each operator has lines of its own to the API server and to Postgres.
``ROADSTEAD_FROZEN_SECONDS`` says how long a leader is held still at least (40).
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from roadstead.runtime.main import EXIT_LEASE_LOST
from roadstead_migrations import runner
from tests.faults.rig.kube_calls import Call
from tests.faults.rig.scene import Scene, another, raised
from tests.faults.rig.two_operators import HeldCall, LifeOf, end_of, started
from tests.fixtures.control_plane import RunningControlPlane
from tests.simulation.calls import DoorCall
from tests.simulation.scenario import LIFE, Step
from tests.simulation.world import World

pytestmark = pytest.mark.faults

FROZEN_SECONDS = float(os.environ.get("ROADSTEAD_FROZEN_SECONDS", "40"))
CREATE, _, ANOTHER_SPEC, NODE_LOST = LIFE[:4]

Say = Callable[[str], None]


@pytest.fixture(scope="session")
def worlds(plane: RunningControlPlane, postgres_server: URL, tmp_path_factory: pytest.TempPathFactory) -> list[World]:
    """After each step of a life with one leader."""
    runner.upgrade(postgres_server)
    folder = tmp_path_factory.mktemp("undisturbed")

    async def live() -> list[World]:
        found = []
        async with raised(
            kubeconfig=plane.kubeconfig, database=postgres_server, namespace="undisturbed", folder=folder
        ) as scene:
            life = LifeOf(scene)
            await started(scene, leading=True)
            for step in LIFE[:4]:
                await life.play([step], scene)
                await asyncio.sleep(1.5)  # rows of the ledger follow
                found.append(await life.world())
        return found

    return asyncio.run(live())


@pytest.fixture
async def two(
    plane: RunningControlPlane, database: URL, namespace: str, tmp_path: Path
) -> AsyncIterator[tuple[Scene, Scene]]:
    """One operator leads, another stands by."""
    kubeconfig = plane.kubeconfig
    async with (
        raised(kubeconfig=kubeconfig, database=database, namespace=namespace, folder=tmp_path) as leader,
        another(leader, "standby", kubeconfig=kubeconfig) as standby,
    ):
        await started(leader, leading=True)
        await started(standby, leading=False)
        yield leader, standby


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    def tell(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}\n")

    return tell


# ── Held still ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Late:
    """Which write is on its way when its writer is stopped."""

    kind: str
    step: Step
    seconds: float = 0.0
    """How long it is held still at least; in any case until another has done the work."""


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(Late("cell", ANOTHER_SPEC, FROZEN_SECONDS), id="a cell is configured"),
        pytest.param(Late("agent", CREATE), id="weights are fetched"),
        pytest.param(Late("patch modelroutes", ANOTHER_SPEC), id="a route is published"),
        pytest.param(Late("COMMIT", ANOTHER_SPEC), id="a release is numbered"),
    ],
)
async def test_what_a_leader_that_was_held_still_writes_late_is_refused_and_it_ends(
    two: tuple[Scene, Scene], worlds: list[World], say: Say, late: Late
) -> None:
    """It was stopped while a write of its was on its way; that arrives when another has done the work."""
    leader, standby = two
    life, held = LifeOf(leader), HeldCall(leader, late.kind)
    number = LIFE.index(late.step)
    async with life.sampled():
        await life.play(LIFE[:number], leader)
        held.arm()
        await life.begin(late.step)
        await held.sent()
        stopped = time.monotonic()
        taken = await standby.until(standby.leads, "another leads", seconds=30)
        done = await life.ends(late.step, standby)
        await asyncio.sleep(max(0.0, stopped + late.seconds - time.monotonic()))

        frozen = time.monotonic() - stopped
        held.arrive()
        ended = await end_of(leader, within_seconds=5)
        await life.becomes(worlds[number], standby)
        assert leader.operator.exit_status == EXIT_LEASE_LOST
        refused = refusal_of(held)
        assert refused, f"{held.call} was carried out"
        await started(leader, leading=False)
        await life.becomes(worlds[number], standby)
    say(
        f"held still for {frozen:.0f} s at {held.call}: another led after {taken:.1f} s and had done it {done:.1f} s "
        f"later; the late write: {refused}; the old leader ended {ended:.2f} s after it went on; "
        f"{len(leader.fleet.calls.stale)} calls refused at doors, {life.samples} samples",
    )


def refusal_of(held: HeldCall) -> str:
    """What became of the late write; empty if it was carried out."""
    call = held.call
    if isinstance(call, DoorCall):
        return f"StaleEpoch {call.epoch}" if call in held.scene.fleet.calls.stale else ""
    if isinstance(call, Call):
        return "409 Conflict" if call.status == 409 else ""
    return "the server had ended its transaction" if held.dropped else ""
