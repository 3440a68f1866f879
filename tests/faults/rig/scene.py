"""One operator behind faulty lines: a real API server, a real ledger, simulated doors, and models to look at."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
from sqlalchemy.engine import URL

from roadstead.adapters.kube.api import MERGE, Api, ApiRefused, connected
from roadstead.adapters.kube.settings import KubeSettings
from tests.faults.rig.api_proxy import ApiProxy, api_proxy
from tests.faults.rig.operator_process import SceneOperator
from tests.faults.rig.postgres_proxy import PostgresProxy, postgres_proxy
from tests.fixtures.free_ports import free_address
from tests.fixtures.postgres import as_libpq
from tests.simulation import objects
from tests.simulation.catalogue import source_of
from tests.simulation.doors import served
from tests.simulation.fleet import SimulatedFleet, write_directory
from tests.simulation.heartbeats import Heartbeats
from tests.simulation.operator_process import operator_environment

NODES: Final = 3
_KINDS: Final = "/apis/roadstead.dev/v1alpha1"
_LOOK_SECONDS: Final = 0.05

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """A LocalModel, past the proxies."""

    api: Api
    namespace: str
    name: str

    @property
    def path(self) -> str:
        return f"{_KINDS}/namespaces/{self.namespace}/localmodels/{self.name}"

    async def create(self, *, replicas: int = 2, context_tokens: int = 2048) -> None:
        await objects.apply_one(
            self.api,
            objects.local_model(
                self.namespace,
                self.name,
                replicas=replicas,
                requirements={"contextTokens": context_tokens},
                variants=[{"name": "q4", "source": source_of(f"{self.name}-q4", mebibytes=500)}],
            ),
        )

    async def scale(self, replicas: int) -> None:
        await self.api.request("PATCH", self.path, body={"spec": {"replicas": replicas}}, content_type=MERGE)

    async def lengthen(self, context_tokens: int) -> None:
        """Another content, which needs a new release."""
        spec = {"requirements": {"contextTokens": context_tokens}}
        await self.api.request("PATCH", self.path, body={"spec": spec}, content_type=MERGE)

    async def delete(self) -> None:
        await self.api.request("DELETE", self.path)

    async def read(self) -> Object | None:
        try:
            return await self.api.request("GET", self.path)
        except ApiRefused as refusal:
            if refusal.status != 404:
                raise
            return None

    async def gone(self) -> bool:
        return await self.read() is None

    async def condition(self, kind: str) -> Object:
        """Empty if it is not told."""
        found = ((await self.read()) or {}).get("status", {}).get("conditions", ())
        return next((row for row in found if row["type"] == kind), {})

    def serves(self, replicas: int, *, release: int = 1) -> Callable[[], Awaitable[bool]]:
        """Whether exactly so many replicas of that release serve and its status says so, of the newest spec."""

        async def look() -> bool:
            found = await self.read() or {}
            status = found.get("status", {})
            conditions = {row["type"]: row["status"] for row in status.get("conditions", ())}
            return (
                status.get("observedGeneration") == found["metadata"]["generation"]
                and status.get("replicas") == status.get("readyReplicas") == replicas
                and status.get("release", {}).get("number") == release
                and (conditions.get("Ready"), conditions.get("Reconciling")) == ("True", "False")
            )

        return look


@dataclass(slots=True, kw_only=True)
class Scene:
    """What a test of faults plays on."""

    api: Api
    """The API server itself."""
    kube: ApiProxy
    """What the operator takes for it."""
    ledger: PostgresProxy
    """What the operator takes for Postgres."""
    database: URL
    """Postgres itself."""
    fleet: SimulatedFleet
    operator: SceneOperator
    namespace: str

    def model(self, name: str = "assistant") -> Written:
        return Written(self.api, self.namespace, name)

    async def until(self, look: Callable[[], Awaitable[object]], what: str, *, seconds: float = 20.0) -> float:
        """Wait for it while the operator lives; the seconds it took."""
        began = time.monotonic()
        while not await look():
            assert self.operator.exit_status is None, f"the operator ended while waiting for {what}\n{self.words()}"
            if time.monotonic() - began > seconds:
                raise AssertionError(f"not within {seconds:g} s: {what}\n{await self.told()}\n{self.words()}")
            await asyncio.sleep(_LOOK_SECONDS)
        return time.monotonic() - began

    async def said(self, event: str, *, seconds: float = 20.0, **fields: object) -> None:
        """Wait until the operator logged it."""

        async def look() -> bool:
            return any(fields.items() <= line.items() for line in self.lines(event))

        await self.until(look, f"{event} {fields} in the log", seconds=seconds)

    def lines(self, event: str = "") -> list[Object]:
        """What the operator logged; with this event only, if one is named."""
        found = [json.loads(line) for line in self.operator.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if event in ("", line["event"])]

    def words(self) -> str:
        return "\n".join(self.operator.log.read_text(errors="replace").splitlines()[-20:])

    async def told(self) -> str:
        """The models' status, for people."""
        found, _ = await self.api.list(f"{_KINDS}/namespaces/{self.namespace}/localmodels")
        return "\n".join(json.dumps({"spec": each["spec"], "status": each.get("status")}) for each in found)

    async def figures(self) -> Mapping[str, float]:
        """The operator's metrics."""
        listen = self.operator.environment["ROADSTEAD_LISTEN"]
        async with aiohttp.ClientSession() as session, session.get(f"http://{listen}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}

    async def leads(self) -> bool:
        """Whether the operator's loop turns."""
        try:
            return (await self.figures())["roadstead_leading"] == 1
        except (aiohttp.ClientError, KeyError):
            return False

    def slots(self) -> dict[str, int]:
        """Replicas that hold memory, by model; everything that the cells hold is counted."""
        held: dict[str, int] = {}
        for model, _, _, started in self.fleet.slots():
            held[model.rpartition("/")[2]] = held.get(model.rpartition("/")[2], 0) + started
        return held

    async def restarted(self) -> None:
        """Start the operator again if it has ended, as a kubelet does."""
        if self.operator.exit_status is not None:
            await self.operator.start()


@asynccontextmanager
async def another(
    scene: Scene, name: str, *, kubeconfig: Path, as_user: str = "", more: Mapping[str, str] | None = None
) -> AsyncIterator[Scene]:
    """The same scene as a second operator sees it: by lines of its own to the API server and to Postgres.

    The operator is not started yet, and is ended with the block.
    """
    folder = scene.operator.log.parent / name
    folder.mkdir()
    async with api_proxy(kubeconfig, as_user=as_user) as kube, postgres_proxy(scene.database) as ledger:
        environment = {
            **scene.operator.environment,
            "KUBECONFIG": str(kube.write_kubeconfig(folder / "kubeconfig")),
            "ROADSTEAD_DATABASE_URL": as_libpq(ledger.url),
            "ROADSTEAD_IDENTITY": name,
            "ROADSTEAD_LISTEN": free_address(),
        }
        operator = SceneOperator(environment={**environment, **(more or {})}, log=folder / "operator.log")
        try:
            yield replace(scene, kube=kube, ledger=ledger, operator=operator)
        finally:
            await operator.kill()


@asynccontextmanager
async def raised(
    *,
    kubeconfig: Path,
    database: URL,
    namespace: str,
    folder: Path,
    as_user: str = "",
    more: Mapping[str, str] | None = None,
) -> AsyncIterator[Scene]:
    """Everything up but the operator, which is started by :attr:`Scene.operator` and ended here.

    ``more`` are variables for the operator; ``as_user`` is who it is for the API server, an administrator if nobody.
    """
    fleet = SimulatedFleet.of(NODES)
    token = folder / "door.token"
    token.write_text("of the simulated doors", encoding="ascii")
    async with (
        connected(KubeSettings(kubeconfig=kubeconfig)) as api,
        api_proxy(kubeconfig, as_user=as_user) as kube,
        postgres_proxy(database) as ledger,
        served(fleet, token_file=token, kubeconfig=kubeconfig, namespace=namespace) as address,
    ):
        await objects.namespace(api, namespace)
        await _nodes(api, fleet)
        directory = folder / "doors.json"
        write_directory(directory, fleet, address)
        environment = operator_environment(
            kubeconfig=kube.write_kubeconfig(folder / "kubeconfig"),
            namespace=namespace,
            directory=directory,
            door_token=token,
            database_url=as_libpq(ledger.url),
            installation=namespace,
        )
        operator = SceneOperator(environment={**environment, **(more or {})}, log=folder / "operator.log")
        beats = Heartbeats(api=api, alive=lambda node: fleet.nodes[node].alive)
        beating = asyncio.create_task(beats.run(fleet.nodes), name="heartbeats")
        try:
            yield Scene(
                api=api,
                kube=kube,
                ledger=ledger,
                database=database,
                fleet=fleet,
                operator=operator,
                namespace=namespace,
            )
        finally:
            await operator.kill()
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)


async def _nodes(api: Api, fleet: SimulatedFleet) -> None:
    """Nodes as on their first day: an earlier scene may have ended long ago, or with one of them dead."""
    await objects.nodes(api, fleet.nodes)
    deadline = time.monotonic() + 30
    while await _tainted(api, fleet):
        assert time.monotonic() < deadline, "Nodes keep the taints of an earlier scene"
        await asyncio.sleep(_LOOK_SECONDS)


async def _tainted(api: Api, fleet: SimulatedFleet) -> bool:
    nodes, _ = await api.list("/api/v1/nodes")
    return any(node["spec"].get("taints") for node in nodes if node["metadata"]["name"] in fleet.nodes)
