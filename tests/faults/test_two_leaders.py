"""Two operators, of which each believes that it leads, or neither: what the one that does not lead does is harmless.

On real parts, as in the other tests of faults; each operator has lines of its own to the API server and to Postgres.
``ROADSTEAD_FROZEN_SECONDS`` says how long a leader is held still at least (40).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from roadstead.runtime.main import EXIT_LEASE_LOST
from roadstead_migrations import runner
from tests.faults.rig.kube_calls import Call, Match
from tests.faults.rig.kube_faults import BlackHole, Delay, Fault, HalfOpen
from tests.faults.rig.operator_with_clock import OFF_SECONDS
from tests.faults.rig.rights import RIGHTS, allow
from tests.faults.rig.scene import Scene, another, raised
from tests.faults.rig.two_operators import (
    LEASES,
    HeldCall,
    LifeOf,
    began_with,
    end_of,
    lease_of,
    moment_of,
    started,
    told,
)
from tests.fixtures.control_plane import RunningControlPlane
from tests.fixtures.figures import Say
from tests.simulation.calls import DoorCall
from tests.simulation.scenario import LIFE, Step
from tests.simulation.world import World

pytestmark = pytest.mark.faults

FROZEN_SECONDS = float(os.environ.get("ROADSTEAD_FROZEN_SECONDS", "40"))
CREATE, _, ANOTHER_SPEC, NODE_LOST = LIFE[:4]


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
        f"{len(leader.fleet.calls.stale)} calls refused at doors, {life.replicas.samples} samples",
    )


def refusal_of(held: HeldCall) -> str:
    """What became of the late write; empty if it was carried out."""
    call = held.call
    if isinstance(call, DoorCall):
        return f"StaleEpoch {call.epoch}" if call in held.scene.fleet.calls.stale else ""
    if isinstance(call, Call):
        return "409 Conflict" if call.status == 409 else ""
    return "the server had ended its transaction" if held.dropped else ""


# ── Partitioned ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_leader_that_cannot_reach_the_api_server_stops_before_another_leads(
    two: tuple[Scene, Scene], worlds: list[World], say: Say
) -> None:
    """It goes on reaching doors and ledger; a node dies meanwhile."""
    leader, standby = two
    life = LifeOf(leader)
    async with life.sampled():
        await life.play(LIFE[:3], leader)
        await life.becomes(worlds[2], leader)
        with leader.kube.failing(*PARTITION):
            began = time.monotonic()
            await life.begin(NODE_LOST)
            taken = asyncio.create_task(standby.until(standby.leads, "another leads", seconds=30))
            ended = await end_of(leader, within_seconds=20)
            assert not taken.done(), "two led at once"
            await taken
            done = await life.ends(NODE_LOST, standby)
            await life.becomes(worlds[3], standby)
        assert leader.operator.exit_status == EXIT_LEASE_LOST
        apart = moment_of(standby, "lease taken") - moment_of(leader, "operator.ends")
        assert apart > timedelta(seconds=1), apart
        admitted = leader.fleet.calls.admitted
        assert set(began_with(admitted, "2")) <= {"2"}, admitted

        await started(leader, leading=False)
        await life.becomes(worlds[3], standby)
    say(
        f"partitioned: the leader ended after {ended:.1f} s, another led after {taken.result():.1f} s, "
        f"{apart.total_seconds():.1f} s later, and had dealt with a lost node {done:.1f} s after that; "
        f"whole outage {time.monotonic() - began:.0f} s"
    )


PARTITION = (
    Fault(match=Match(), effect=BlackHole()),
    Fault(match=Match(verbs=("watch",)), effect=HalfOpen()),
)


# ── Rights ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_leader_without_rights_to_the_lease_says_so_and_leaves_it_to_one_that_has_them(
    plane: RunningControlPlane, database: URL, namespace: str, tmp_path: Path, say: Say
) -> None:
    plane.kubectl("create", "namespace", namespace)
    for name in (namespace, f"{namespace}-standby"):
        allow(plane, name, RIGHTS)
        account = f"--serviceaccount={namespace}:{name}"
        plane.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", account)
    of = f"system:serviceaccount:{namespace}:{namespace}"
    kubeconfig = plane.kubeconfig
    async with (
        raised(kubeconfig=kubeconfig, database=database, namespace=namespace, folder=tmp_path, as_user=of) as leader,
        another(leader, "standby", kubeconfig=kubeconfig, as_user=f"{of}-standby") as standby,
    ):
        await started(leader, leading=True)
        await started(standby, leading=False)
        await leader.model().create()
        await leader.until(leader.model().serves(2), "the model serves")

        allow(plane, namespace, {group: rule for group, rule in RIGHTS.items() if group != "coordination.k8s.io"})
        taken = asyncio.create_task(standby.until(standby.leads, "another leads", seconds=30))
        ended = await end_of(leader, within_seconds=15)
        assert not taken.done(), "two led at once"
        assert leader.operator.exit_status == EXIT_LEASE_LOST
        why = leader.lines("operator.ends")[-1]["why"]
        assert "forbidden" in why, why
        assert "leases" in why, why

        await leader.operator.start()
        await taken
        await leader.said("lease not taken", code="Forbidden", level="warning")
        await leader.model().scale(3)
        scaled = await standby.until(leader.model().serves(3), "the other does the work")
        assert await told(leader, "readyz") == {"synced": True, "leading": False}

        allow(plane, namespace, RIGHTS)
        tries = len([call for call in leader.kube.made(LEASES) if call.status == 200])

        async def looks_again() -> bool:
            return len([call for call in leader.kube.made(LEASES) if call.status == 200]) >= tries + 3

        await leader.until(looks_again, "it may look at the Lease again")
        assert await standby.leads()
        assert not await leader.leads()
        assert (await lease_of(leader))["metadata"]["annotations"] == {"roadstead.dev/epoch": "2"}
    plane.kubectl("delete", "clusterrole,clusterrolebinding", namespace, f"{namespace}-standby")
    say(
        f"without rights: the leader ended after {ended:.1f} s ({why}); another led after {taken.result():.1f} s "
        f"and scaled {scaled:.1f} s after it was asked"
    )


# ── Clocks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ahead", [1, -1], ids=["leader ahead, standby behind", "leader behind, standby ahead"])
async def test_a_clock_that_is_an_hour_off_neither_takes_a_living_lease_nor_holds_a_dead_one(
    resting: Scene, plane: RunningControlPlane, ahead: int, say: Say
) -> None:
    """Of both, in opposite directions: two hours apart."""
    of_the_leader = {OFF_SECONDS: str(ahead * 3600)}
    of_the_standby = {OFF_SECONDS: str(-ahead * 3600)}
    async with another(resting, "standby", kubeconfig=plane.kubeconfig, more=of_the_standby) as standby:
        leader = resting
        leader.operator.environment = {**leader.operator.environment, **of_the_leader}
        for scene in (leader, standby):
            scene.operator.program = "tests.faults.rig.operator_with_clock"
        await started(leader, leading=True)
        renewed = datetime.fromisoformat((await lease_of(leader))["spec"]["renewTime"])
        assert abs((renewed - datetime.now(UTC)).total_seconds()) > 3500, "the clock is right"
        await started(standby, leading=False)
        await leader.model().create()
        await leader.until(leader.model().serves(2), "the model serves")
        looked = len(standby.kube.made(LEASES))

        async def looks() -> bool:
            return len(standby.kube.made(LEASES)) >= looked + 4

        await standby.until(looks, "it looks at the Lease again and again")
        assert abs(await ready_since(leader) - datetime.now(UTC)) < MINUTE, "its status tells the wrong time"
        assert await leader.leads()
        assert not await standby.leads()

        await leader.operator.kill()
        taken = await standby.until(standby.leads, "another leads", seconds=25)
        assert taken > 10, "it took a Lease that had just been renewed"
        await standby.model().scale(0)
        await standby.until(standby.model().serves(0), "the model is scaled")
        assert abs(await ready_since(standby) - datetime.now(UTC)) < MINUTE, "its status tells the wrong time"
        await standby.model().delete()
        gone = await standby.until(standby.model().gone, "the model is deleted")
        assert standby.slots() == {}
    say(f"clocks two hours apart: another led {taken:.1f} s after the leader was killed; deleted in {gone:.1f} s")


MINUTE = timedelta(minutes=1)


async def ready_since(scene: Scene) -> datetime:
    return datetime.fromisoformat((await scene.model().condition("Ready"))["lastTransitionTime"])


# ── In peace ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_leader_that_is_asked_to_end_hands_over_within_seconds(
    two: tuple[Scene, Scene], worlds: list[World], say: Say
) -> None:
    """In the middle of a change: its turn ends, and what is left to do the other does."""
    leader, standby = two
    life, asked = LifeOf(leader), asyncio.Event()

    def look(_: DoorCall) -> None:
        asked.set()

    async with life.sampled():
        await life.play(LIFE[:2], leader)
        leader.fleet.calls.on_mutation = look
        await life.begin(ANOTHER_SPEC)
        await asked.wait()
        began = time.monotonic()
        ending = asyncio.create_task(leader.operator.end())
        taken = await standby.until(standby.leads, "another leads")
        done = await life.ends(ANOTHER_SPEC, standby)
        await ending
        ended = time.monotonic() - began
        assert leader.operator.exit_status == 0, leader.words()
        await life.becomes(worlds[2], standby)

        written = standby.kube.mutations + standby.ledger.commits
        await started(leader, leading=False)
        began = time.monotonic()
        await standby.operator.end()
        again = await leader.until(leader.leads, "it leads again") + time.monotonic() - began
        await life.becomes(worlds[2], leader)
        assert not leader.fleet.calls.stale
    say(
        f"in peace: another led {taken:.1f} s after SIGTERM and was done {done:.1f} s later ({written} writes), all of "
        f"the old one was gone after {ended:.1f} s; at rest {again:.1f} s"
    )


async def test_a_new_operator_reads_its_lists_while_it_waits_for_a_dead_ones_lease(
    scene: Scene, plane: RunningControlPlane, say: Say
) -> None:
    """It might wait for them first, and only then look at the Lease for the first time."""
    lists = Match(verbs=("list",))
    async with another(scene, "heir", kubeconfig=plane.kubeconfig) as heir:
        await scene.operator.kill()
        killed = time.monotonic()
        with heir.kube.failing(Fault(match=lists, effect=Delay(LISTS_SECONDS))):
            await heir.operator.start()
            taken = await heir.until(heir.leads, "it leads", seconds=40)
            led = asyncio.get_running_loop().time()
        after = led - heir.kube.made(lists)[0].at
        assert after < LEASE_SECONDS + LISTS_SECONDS / 2, f"{after} s: it looked at the Lease when it had the lists"
    say(
        f"started when the leader died, lists taking {LISTS_SECONDS:g} s: it led {taken:.1f} s after its start, "
        f"{time.monotonic() - killed:.1f} s after the death, {after:.1f} s after it asked for the first list"
    )


LEASE_SECONDS, LISTS_SECONDS = 15.0, 8.0
