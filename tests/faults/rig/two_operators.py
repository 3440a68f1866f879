"""Two operators on one scene: the steps of a model's life, what is sampled meanwhile, and one call that is held."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

import aiohttp
from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import Engine

from tests.faults.rig.kube_calls import Call, Match
from tests.faults.rig.scene import Object, Scene
from tests.simulation.calls import Cut, DoorCall
from tests.simulation.replicas import ReplicaCount
from tests.simulation.scenario import LIFE, Stage, Step
from tests.simulation.world import World, differences, world_of

LEASES: Final = Match(resource="leases")
_QUIET_SECONDS: Final = 1.5
_STEP_SECONDS: Final = 40.0


class LifeOf:
    """The model's life, step by step, and the world as it is; not more replicas than allowed at any sample."""

    def __init__(self, scene: Scene) -> None:
        self.stage = Stage(api=scene.api, namespace=scene.namespace, fleet=scene.fleet)
        self.replicas = ReplicaCount(LIFE[0])
        self._ledger: Engine = create_engine(scene.database, poolclass=NullPool)

    async def begin(self, step: Step) -> None:
        """What a person or the world does."""
        self.replicas.step = step
        await step.do(self.stage)

    async def ends(self, step: Step, by: Scene) -> float:
        """Wait until the operator of that scene has dealt with it; the seconds it took."""
        return await by.until(partial(step.done, self.stage), f"{step.name} is dealt with", seconds=_STEP_SECONDS)

    async def play(self, steps: Sequence[Step], by: Scene) -> None:
        for step in steps:
            await self.begin(step)
            await self.ends(step, by)

    async def world(self) -> World:
        return await world_of(self.stage, self._ledger, installation=self.stage.namespace)

    async def becomes(self, wanted: World, by: Scene) -> None:
        """Wait for that world, and find it unchanged a moment later."""

        async def same() -> bool:
            return await self.world() == wanted

        try:
            await by.until(same, "the world of an undisturbed life")
            await asyncio.sleep(_QUIET_SECONDS)
            assert await same(), "it did not stay"
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *differences(wanted, await self.world())])) from error

    @asynccontextmanager
    async def sampled(self) -> AsyncIterator[None]:
        """Replicas that hold memory are counted again and again; at the end there were never too many."""
        async with self.replicas.sampled(self.stage.fleet):
            yield
        assert self.replicas.samples
        assert not self.replicas.excess


@dataclass(slots=True)
class HeldCall:
    """The first mutating call of that kind: its caller is stopped while it is on its way, and it arrives late.

    ``kind`` is how the call begins as ``str``: ``cell cell-0 PUT``, ``patch modelroutes``, ``COMMIT``.
    """

    scene: Scene
    kind: str
    call: DoorCall | Call | str = ""
    """What was held; empty until then."""
    dropped: bool = False
    """Whether its receiver hung up before it arrived."""
    _sent: asyncio.Event = field(default_factory=asyncio.Event)
    _arrives: asyncio.Event = field(default_factory=asyncio.Event)

    def arm(self) -> None:
        """Wait for it from now on, at every door."""
        kube, ledger, doors = self.scene.kube, self.scene.ledger, self.scene.fleet.calls
        kube.on_mutation, kube.cut = lambda _, call: self._look(call), self._travel
        ledger.on_commit, ledger.cut = lambda _: self._look("COMMIT"), self._travel
        doors.on_mutation, doors.cut = self._look, self._travel

    async def sent(self) -> None:
        """Its caller is held still."""
        async with asyncio.timeout(_STEP_SECONDS):
            await self._sent.wait()

    def arrive(self) -> None:
        """It is carried out, if its receiver is still there; its caller goes on."""
        self._arrives.set()
        self.scene.operator.thaw()

    def _look(self, call: DoorCall | Call | str) -> Cut | None:
        if self.call or not str(call).startswith(self.kind):
            return None
        self.call = call
        self.scene.operator.freeze()
        self._sent.set()
        return Cut.LATE

    async def _travel(self) -> None:
        try:
            await self._arrives.wait()
        except asyncio.CancelledError:
            self.dropped = True
            raise


async def started(scene: Scene, *, leading: bool) -> None:
    """Start its operator, and wait until it leads or stands by."""
    tries = len(scene.kube.made(LEASES))
    await scene.operator.start()
    if leading:
        await scene.until(scene.leads, "it leads", seconds=40)
        return

    async def stands_by() -> bool:
        known = await told(scene, "readyz")
        return known == {"synced": True, "leading": False} and len(scene.kube.made(LEASES)) > tries

    await scene.until(stands_by, "it stands by")


async def told(scene: Scene, page: str) -> Object:
    """What the operator says of itself; empty if it says nothing."""
    listen = scene.operator.environment["ROADSTEAD_LISTEN"]
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://{listen}/{page}") as answer:
            found: Object = await answer.json()
            return found
    except aiohttp.ClientError:
        return {}


async def end_of(scene: Scene, *, within_seconds: float) -> float:
    """Wait until its operator has ended; the seconds it took."""
    began = time.monotonic()
    async with asyncio.timeout(within_seconds):
        while scene.operator.exit_status is None:  # noqa: ASYNC110 - a process tells no event
            await asyncio.sleep(0.01)
    return time.monotonic() - began


def began_with(calls: Iterable[DoorCall], epoch: str) -> list[str]:
    """The epochs of the calls from the first one of that epoch on."""
    epochs = [call.epoch for call in calls]
    return epochs[epochs.index(epoch) :] if epoch in epochs else []


def moment_of(scene: Scene, event: str) -> datetime:
    """When its operator last said so."""
    return datetime.fromisoformat(scene.lines(event)[-1]["timestamp"])


async def lease_of(scene: Scene) -> Object:
    """The Lease that both fight for, past the proxies."""
    found: Object = await scene.api.request("GET", lease_path(scene))
    return found


def lease_path(scene: Scene) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{scene.namespace}/leases/roadstead-operator"
