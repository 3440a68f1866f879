"""What the operator does when the API server refuses, is away or was started again, and when others write beside it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from roadstead.adapters.kube.api import MERGE, ApiRefused
from roadstead.embedded.home import Home
from roadstead.embedded.state import read_state
from roadstead.ports import DoorError
from roadstead.runtime.main import EXIT_LEASE_LOST
from tests.faults.rig.kube_calls import Match
from tests.faults.rig.kube_faults import Fault, refusal
from tests.faults.rig.rights import RIGHTS, allow
from tests.faults.rig.scene import Scene, raised
from tests.fixtures.control_plane import RunningControlPlane, control_plane_of_its_own
from tests.fixtures.patience import wait_until
from tests.simulation import objects

pytestmark = pytest.mark.faults

EVERYTHING = Match()
STATUS = Match(resource="localmodels/status")
WATCHES = Match(verbs=("watch",))
BACK_SECONDS = 60.0
"""Control is back so long after what was away at most."""


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("refused", [STATUS, Match(verbs=("list", "watch"))], ids=["writes", "reads"])
async def test_a_retry_after_is_kept_to_within_a_fifth_and_nobody_storms(scene: Scene, refused: Match) -> None:
    seconds = 3
    with scene.kube.failing(Fault(match=refused, effect=refusal(429, retry_after_seconds=seconds))):
        scene.kube.end_watches(WATCHES)
        await scene.model().scale(3)
        await asyncio.sleep(10.5)
        refusals = [call for call in scene.kube.made(refused) if call.status == 429]
    # Kopf has a connection of its own, and keeps each of its two watches by itself.
    for watched in ("localmodels", "workerpools", ""):
        times = [
            call.at
            for call in refusals
            if (call.resource == watched or (not watched and call.resource not in ("localmodels", "workerpools")))
        ]
        later = [at for at in times if at > times[0] + 1]  # what was on its way with the first was refused with it
        pauses = [after - before for before, after in pairwise([times[0], *later])] if times else []
        assert all(0.8 * seconds < pause < 1.2 * seconds for pause in pauses), (watched, pauses)
        assert not times or len(pauses) >= 2, watched
    assert refusals
    await scene.until(scene.model().serves(3), "the model is scaled", seconds=15)


async def test_a_leader_that_is_asked_to_wait_keeps_its_lease(scene: Scene) -> None:
    """Longer than a leader may go without renewing."""
    with scene.kube.failing(Fault(match=STATUS, effect=refusal(429, retry_after_seconds=13))):
        await scene.model().scale(3)
        await asyncio.sleep(12.5)
        assert len(scene.kube.made(STATUS)) - len([call for call in scene.kube.made(STATUS) if call.status == 200]) < 3
    await scene.until(scene.model().serves(3), "the model is scaled")
    assert scene.operator.lives == 1


async def test_errors_for_a_while_are_waited_out_by_the_same_process(scene: Scene) -> None:
    """All but the Lease: losing that ends a leader, rightly."""
    not_leases = [Match(resource=each) for each in ("localmodels", "localmodels/status", "modelroutes", "workerpools")]
    with scene.kube.failing(*(Fault(match=each, effect=refusal(500)) for each in not_leases)):
        scene.kube.end_watches(WATCHES)
        await scene.model().scale(3)
        await asyncio.sleep(12)
        assert scene.slots() == {"assistant": 2}
    await scene.until(scene.model().serves(3), "the model is scaled", seconds=BACK_SECONDS)
    assert scene.operator.lives == 1


async def test_an_api_server_that_is_away_ends_the_leader_and_nothing_else(scene: Scene) -> None:
    with scene.kube.failing(Fault(match=EVERYTHING, effect=refusal(503))):
        scene.kube.end_watches(WATCHES)
        await scene.model().scale(3)
        await ended(scene, within_seconds=20)
        assert scene.operator.exit_status == EXIT_LEASE_LOST
        await scene.operator.start()
        with pytest.raises(AssertionError, match="not within"):
            await scene.until(scene.leads, "it leads", seconds=12)
        assert not scene.operator.ended_by_itself, "it waits, and is not started again and again"
        assert scene.slots() == {"assistant": 2}, "nothing is removed on missing knowledge"
    took = await scene.until(scene.model().serves(3), "the model is scaled", seconds=BACK_SECONDS)
    assert took < BACK_SECONDS
    assert scene.operator.lives == 2


async def ended(scene: Scene, *, within_seconds: float) -> None:
    async with asyncio.timeout(within_seconds):
        while scene.operator.exit_status is None:  # noqa: ASYNC110 - a process tells no event
            await asyncio.sleep(0.05)


# ── Other writers and rights ─────────────────────────────────────────────────────────────────────────────────────────


async def test_conflicts_without_end_are_written_through_from_fresh_reads(scene: Scene) -> None:
    """Somebody else writes to the model twenty times a second."""
    conflicts = Match(resource="localmodels/status")
    async with second_writer(scene, "assistant", per_second=20):
        await scene.model().scale(3)
        await scene.until(scene.model().serves(3), "the model is scaled and says so")
        await scene.model().delete()
        await scene.until(scene.model().gone, "it is deleted")
    assert scene.slots() == {}
    tries = len(scene.kube.made(conflicts))
    assert tries < 100, f"{tries} writes of one status"


@asynccontextmanager
async def second_writer(scene: Scene, name: str, *, per_second: int) -> AsyncIterator[None]:
    """An annotation that never rests."""

    async def write() -> None:
        number = 0
        while True:
            number += 1
            body = {"metadata": {"annotations": {"example.org/beat": str(number)}}}
            with suppress(ApiRefused):  # it is gone
                await scene.api.request("PATCH", scene.model(name).path, body=body, content_type=MERGE)
            await asyncio.sleep(1 / per_second)

    writing = asyncio.create_task(write(), name="second writer")
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.wait([writing])


@pytest.mark.parametrize("taken", ["writes", "everything"])
async def test_rights_that_are_taken_away_are_told_and_survived(
    plane: RunningControlPlane, database: URL, namespace: str, tmp_path: Path, taken: str
) -> None:
    plane.kubectl("create", "namespace", namespace)
    account = f"system:serviceaccount:{namespace}:operator"
    binding = f"--clusterrole={namespace}", f"--serviceaccount={namespace}:operator"
    allow(plane, namespace, RIGHTS)
    plane.kubectl("create", "clusterrolebinding", namespace, *binding)
    async with raised(
        kubeconfig=plane.kubeconfig, database=database, namespace=namespace, folder=tmp_path, as_user=account
    ) as scene:
        await scene.operator.start()
        await scene.model().create()
        await scene.until(scene.model().serves(2), "the model serves", seconds=30)
        assert not [call for call in scene.kube.calls if call.status == 403]

        kept = {group: rule for group, rule in RIGHTS.items() if group != "roadstead.dev"}
        reading = {"roadstead.dev": (("*",), ("get", "list", "watch"))}
        allow(plane, namespace, kept | (reading if taken == "writes" else {}))
        scene.kube.end_watches(WATCHES)
        await scene.model().scale(3)
        if taken == "writes":
            await scene.said("status.not_written")
            await scene.until(holds(scene, 3), "what needs no right on the model is done")
        else:
            await scene.said("watch interrupted", code="Forbidden")
        assert any("forbidden" in json.dumps(line) for line in scene.lines()), "the log names who may not do what"
        await asyncio.sleep(9)
        assert scene.operator.exit_status is None, scene.words()

        allow(plane, namespace, RIGHTS)
        await scene.until(scene.model().serves(3), "control is back", seconds=BACK_SECONDS)
        assert scene.operator.lives == 1
    plane.kubectl("delete", "clusterrole,clusterrolebinding", namespace)


def holds(scene: Scene, replicas: int) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return scene.slots() == {"assistant": replicas}

    return look


# ── A server that is not there, or not ready ─────────────────────────────────────────────────────────────────────────


async def test_definitions_that_are_missing_at_the_start_are_waited_for(database: URL, tmp_path: Path) -> None:
    with control_plane_of_its_own() as plane:
        plane.define_our_kinds()
        async with raised(
            kubeconfig=plane.kubeconfig, database=database, namespace="fault-late", folder=tmp_path
        ) as scene:
            plane.kubectl("delete", "crd", "--all")
            await scene.operator.start()
            await scene.said("list failed", resource="localmodels in fault-late", code="Http404")
            assert not await scene.leads()

            plane.define_our_kinds()
            await objects.apply_one(scene.api, objects.pool())
            await scene.model().create()
            await scene.until(scene.model().serves(2), "the model serves", seconds=BACK_SECONDS)
            assert scene.operator.lives == 1


@pytest.mark.parametrize("part", ["kube-apiserver", "etcd"])
async def test_a_server_that_is_killed_and_started_again_costs_no_process_and_no_edit(
    scene: Scene, plane: RunningControlPlane, part: str
) -> None:
    await asyncio.to_thread(kill, plane, part)
    edited = asyncio.create_task(scene.model().scale(3))
    with suppress(DoorError):
        await edited
    await scene.until(partial(scaled_at_last, scene), "the edit is taken", seconds=BACK_SECONDS)
    await scene.until(scene.model().serves(3), "the model is scaled", seconds=BACK_SECONDS)
    assert scene.operator.lives == 1
    assert scene.slots() == {"assistant": 3}


async def scaled_at_last(scene: Scene) -> bool:
    with suppress(DoorError):
        await scene.model().scale(3)
        return True
    return False


def kill(plane: RunningControlPlane, part: str) -> None:
    """SIGKILL; what started it starts it again. Returns when it is gone."""
    state = read_state(Home.of(plane.kubeconfig.parent).state_file)
    assert state is not None
    report = state.process(part)
    assert report is not None
    identity = report.identity
    assert identity is not None
    os.kill(identity.pid, signal.SIGKILL)
    wait_until(lambda: not identity.alive(), f"{part} is gone", seconds=10)
