"""The life of one model as data: create, scale, another spec, a node lost and back, delete.

Each step says what a person or the world does, and how it looks when the fleet has dealt with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from roadstead.adapters.kube.api import MERGE, Api, ApiRefused
from tests.simulation import objects
from tests.simulation.catalogue import source_of
from tests.simulation.fleet import SimulatedFleet
from tests.simulation.line import Silence

MODEL = "assistant"
_KINDS = "/apis/roadstead.dev/v1alpha1/namespaces"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a scenario is played: the API server itself, not through what the operator sees it by."""

    api: Api
    namespace: str
    fleet: SimulatedFleet

    @property
    def path(self) -> str:
        return f"{_KINDS}/{self.namespace}/localmodels/{MODEL}"

    async def model(self) -> dict[str, Any] | None:
        return await _read(self.api, self.path)

    async def change(self, **spec: object) -> None:
        """Change fields of the spec."""
        await self.api.request("PATCH", self.path, body={"spec": spec}, content_type=MERGE)

    async def routes(self) -> list[dict[str, Any]]:
        found, _ = await self.api.list(f"{_KINDS}/{self.namespace}/modelroutes")
        return found

    async def revisions(self) -> list[dict[str, Any]]:
        found, _ = await self.api.list(f"/apis/apps/v1/namespaces/{self.namespace}/controllerrevisions")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change, and its end."""

    name: str
    do: Callable[[Stage], Awaitable[None]]
    done: Callable[[Stage], Awaitable[bool]]
    desired: int
    """The most replicas that are asked for while this step goes on."""
    surge: int = 0
    """Replicas that may stand beside them: all of a new content beside all of the old one."""


async def _create(stage: Stage) -> None:
    spec = {
        "replicas": 2,
        "requirements": {"contextTokens": 2048},
        "keepReleases": 1,
        "variants": [
            {"name": "q8", "source": source_of(f"{MODEL}-q8", mebibytes=900), "quality": 1.0},
            {"name": "q4", "source": source_of(f"{MODEL}-q4", mebibytes=500), "quality": 0.9},
        ],
    }
    await objects.apply_one(stage.api, objects.local_model(stage.namespace, MODEL, **spec))


async def _scale(stage: Stage) -> None:
    await stage.change(replicas=3)


async def _longer_context(stage: Stage) -> None:
    await stage.change(requirements={"contextTokens": 4096})


def _busiest(stage: Stage) -> str:
    """A node that serves the model, always the same one."""
    return min(
        app.args.node for cell in stage.fleet.cells.values() for app in cell.applications.values() if not app.leaving
    )


async def _lose_a_node(stage: Stage) -> None:
    node = _busiest(stage)
    stage.fleet.kill_node(node, how=Silence.CUTS)
    await objects.apply_one(stage.api, objects.node_status(node, ready=False))


async def _it_comes_back(stage: Stage) -> None:
    for node in stage.fleet.nodes.values():
        if not node.alive:
            stage.fleet.revive_node(node.name)
            await objects.apply_one(stage.api, objects.node_status(node.name))


async def _delete(stage: Stage) -> None:
    await stage.api.request("DELETE", stage.path)


def _serves(replicas: int, *, release: int, all_nodes: bool = True) -> Callable[[Stage], Awaitable[bool]]:
    """Whether exactly so many replicas of that release answer, everybody knows everything, and nothing else is left."""

    async def look(stage: Stage) -> bool:
        if not all(node.line.waited_at for node in stage.fleet.nodes.values() if node.alive):
            return False  # the operator has yet to hear of a node that has just come back
        apps = [app for cell in stage.fleet.cells.values() for app in cell.applications.values()]
        if sum(len(app.ready) for app in apps) != replicas or any(
            app.leaving or app.user_config.release != release or len(app.ready) != app.replicas for app in apps
        ):
            return False
        if all_nodes != all(node.alive for node in stage.fleet.nodes.values()):
            return False
        model = await stage.model()
        routes = await stage.routes()
        return model is not None and _told(model, replicas, release) and _routed(routes, replicas)

    return look


def _told(model: dict[str, Any], replicas: int, release: int) -> bool:
    status = model.get("status", {})
    conditions = {row["type"]: row["status"] for row in status.get("conditions", ())}
    return (
        status.get("observedGeneration") == model["metadata"]["generation"]
        and status.get("readyReplicas") == status.get("replicas") == replicas
        and status.get("release", {}).get("number") == release
        and conditions.get("Ready") == "True"
        and conditions.get("Reconciling") == "False"
    )


def _routed(routes: list[dict[str, Any]], replicas: int) -> bool:
    slots = [slot for route in routes for slot in route["spec"].get("slots", ())]
    return len(routes) == 1 and (
        sum(len(slot["addresses"]) for slot in slots if slot.get("state", "Active") == "Active") == replicas
        and all(slot.get("state", "Active") == "Active" for slot in slots)
    )


async def _nothing_is_left(stage: Stage) -> bool:
    fleet = stage.fleet
    return (
        not any(cell.applications for cell in fleet.cells.values())
        and not any(node.leases or node.weights for node in fleet.nodes.values())
        and await stage.model() is None
        and not await stage.routes()
        and not await stage.revisions()
    )


async def _read(api: Api, path: str) -> dict[str, Any] | None:
    try:
        return await api.request("GET", path)
    except ApiRefused as refusal:
        if refusal.status != 404:
            raise
        return None


LIFE = (
    Step(name="create", do=_create, done=_serves(2, release=1), desired=2),
    Step(name="scale", do=_scale, done=_serves(3, release=1), desired=3),
    Step(name="another spec", do=_longer_context, done=_serves(3, release=2), desired=3, surge=3),
    Step(name="node lost", do=_lose_a_node, done=_serves(3, release=2, all_nodes=False), desired=3),
    Step(name="node back", do=_it_comes_back, done=_serves(3, release=2), desired=3),
    Step(name="delete", do=_delete, done=_nothing_is_left, desired=3),
)
