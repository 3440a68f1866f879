"""One life of one model on real parts: API server, Postgres and operator, with the doors of a simulated fleet.

The operator sees the API server and Postgres through proxies that count. At the journal's point it is killed and at
once started again; every step must still end in the world that it ends in when nobody dies.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import URL, Engine

from roadstead.adapters.kube.api import Api, ApiRefused, connected
from roadstead.adapters.kube.settings import KubeSettings
from tests.faults.rig.api_proxy import api_proxy
from tests.faults.rig.postgres_proxy import postgres_proxy
from tests.fixtures.postgres import as_libpq
from tests.simulation import objects
from tests.simulation.doors import served
from tests.simulation.fleet import SimulatedFleet, write_directory
from tests.simulation.heartbeats import Heartbeats
from tests.simulation.journal import Journal, Point
from tests.simulation.operator_process import OperatorProcess, operator_environment
from tests.simulation.replicas import ReplicaCount
from tests.simulation.scenario import LIFE, Stage
from tests.simulation.world import World, differences, world_of

CONVERGED_SECONDS = 60.0
"""From the operator's death to the world as it would have been."""
_NODES = 4
_LOOK_SECONDS = 0.1
_QUIET_SECONDS = 1.5
"""A step of an undisturbed life is over when nothing was written for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealParts:
    """What all lives share."""

    kubeconfig: Path
    database: URL
    folder: Path


class Life:
    """One life; :meth:`play` it once.

    ``heir`` is the identity under which the operator is started again; empty: its own, as in a Pod that is restarted.
    ``as_in`` are the worlds, by step, in which the steps must end.
    """

    def __init__(
        self,
        parts: RealParts,
        name: str,
        *,
        point: Point | None = None,
        heir: str = "",
        as_in: Mapping[str, World] | None = None,
    ) -> None:
        self.journal = Journal(point)
        self.worlds: dict[str, World] = {}
        """By step, at its end."""
        self.steps: dict[str, int] = {}
        """Calls by step."""
        self.replicas = ReplicaCount(LIFE[0])
        self.orphans: list[str] = []
        """Processes that outlived the operator."""
        self.converged_seconds = 0.0
        """From the death to the right world."""
        self.log = parts.folder / f"{name}.log"
        self._parts = parts
        self._name = name
        self._as_in = as_in or {}
        self._heir = heir
        self._died: float | None = None
        self._dying: asyncio.Task[None] | None = None
        self._operator: OperatorProcess

    async def play(self) -> None:
        """Every step in turn. Fails where a step does not end in its world in time."""
        async with self._raised() as (stage, ledger), self.replicas.sampled(stage.fleet):
            for step in LIFE:
                self.replicas.step, before = step, len(self.journal.calls)
                await step.do(stage)
                await self._until_over(stage, ledger)
                self.steps[step.name] = len(self.journal.calls) - before

    @asynccontextmanager
    async def _raised(self) -> AsyncIterator[tuple[Stage, Engine]]:
        """Everything up: namespace, Nodes, doors, proxies, and the operator behind them."""
        parts, name = self._parts, self._name
        fleet = SimulatedFleet.of(_NODES)
        token = parts.folder / "door.token"
        token.write_text("of the simulated doors", encoding="ascii")
        ledger = create_engine(parts.database, poolclass=NullPool)
        async with (
            connected(KubeSettings(kubeconfig=parts.kubeconfig)) as api,
            api_proxy(parts.kubeconfig) as kubernetes,
            postgres_proxy(parts.database) as postgres,
            served(fleet, token_file=token, kubeconfig=parts.kubeconfig, namespace=name) as address,
        ):
            await _fresh(api, name, fleet)
            directory = parts.folder / f"{name}.doors.json"
            write_directory(directory, fleet, address)
            kubernetes.on_mutation, kubernetes.cut = self.journal.of_kubernetes, self._die
            postgres.on_commit, postgres.cut = self.journal.of_postgres, self._die
            fleet.calls.on_mutation, fleet.calls.cut = self.journal.of_doors, self._die
            self._operator = OperatorProcess(
                environment=operator_environment(
                    kubeconfig=kubernetes.write_kubeconfig(parts.folder / f"{name}.kubeconfig"),
                    namespace=name,
                    directory=directory,
                    door_token=token,
                    database_url=as_libpq(postgres.url),
                    installation=name,
                ),
                log=self.log,
            )
            beats = Heartbeats(api=api, alive=lambda node: fleet.nodes[node].alive)
            try:
                async with beats.beating(fleet.nodes):
                    await self._operator.start()
                    yield Stage(api=api, namespace=name, fleet=fleet), ledger
            finally:
                await self._operator.end()
                await api.request("DELETE", f"/api/v1/namespaces/{name}")

    async def _die(self) -> None:
        """To the end, although the connection whose call this is ends with its caller."""
        self._dying = asyncio.create_task(self._die_and_rise(), name="die")
        await asyncio.shield(self._dying)

    async def _die_and_rise(self) -> None:
        await self._operator.kill()
        self.orphans += self._operator.orphans
        self._died = time.monotonic()
        await self._operator.start(identity=self._heir)

    async def _until_over(self, stage: Stage, ledger: Engine) -> None:
        """A step of an undisturbed life is over when it is done and quiet; of any other, when its world is there."""
        began, step = time.monotonic(), self.replicas.step
        wanted = self._as_in.get(step.name)
        while True:
            assert not self._operator.ended_by_itself, f"the operator ended: {self._last_words()}"
            world = await world_of(stage, ledger, installation=self._name)
            if wanted is None:
                if await step.done(stage) and await self._quiet():
                    self.worlds[step.name] = await world_of(stage, ledger, installation=self._name)
                    return
            elif world == wanted and await step.done(stage):
                self.worlds[step.name] = world
                if self._died is not None and not self.converged_seconds:
                    self.converged_seconds = time.monotonic() - self._died
                return
            since = max(began, self._died or began)
            assert time.monotonic() - since < CONVERGED_SECONDS, self._still_wrong(wanted, world)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _quiet(self) -> bool:
        calls = len(self.journal.calls)
        await asyncio.sleep(_QUIET_SECONDS)
        return len(self.journal.calls) == calls

    def _still_wrong(self, wanted: World | None, world: World) -> str:
        lines = differences(wanted, world) if wanted is not None else [f"{world}"]
        said = f"killed {self.journal.point} ({self.journal.died_at})" if self._died else "nobody died"
        return "\n".join(
            [f"after {CONVERGED_SECONDS:g} s of {self.replicas.step.name}, {said}:", *lines, self._last_words()]
        )

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


async def _fresh(api: Api, namespace: str, fleet: SimulatedFleet) -> None:
    """A namespace with nothing in it, a pool that nobody has written to, and Nodes as on their first day."""
    await objects.namespace(api, namespace)
    try:
        await api.request("DELETE", objects.pool().path)
    except ApiRefused as refusal:
        if refusal.status != 404:
            raise
    await objects.nodes(api, fleet.nodes)
    deadline = time.monotonic() + 30
    while await _tainted(api, fleet):
        assert time.monotonic() < deadline, "Nodes keep the taints of an earlier life"
        await asyncio.sleep(_LOOK_SECONDS)


async def _tainted(api: Api, fleet: SimulatedFleet) -> bool:
    nodes, _ = await api.list("/api/v1/nodes")
    return any(node["spec"].get("taints") for node in nodes if node["metadata"]["name"] in fleet.nodes)
