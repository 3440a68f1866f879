"""The doors of a simulated fleet: one process, one port, the real protocol under a path for each door.

``/agents/<node>``, ``/cells/<cell>`` and ``/gateways/<name>`` stand before the paths of ``roadstead_worker.contract``
and ``roadstead_gateway.contract``. A thousand agents cost a thousand waiting connections and nothing else.

``/control`` is for whoever runs the simulation as a program; it demands the same bearer::

    GET  /control/world                  everything behind the doors, normalised
    GET  /control/calls                  how many mutating calls there were, and the last ones
    PUT  /control/silence/<door>?how=…   hangs, cuts, or nothing: speak again
    PUT  /control/nodes/<node>?alive=…   false: the machine loses its power; true: it is back
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from roadstead_gateway.contract import TALLIES_PATH
from roadstead_gateway.kube import find_access
from roadstead_gateway.watch import RouteWatch
from roadstead_worker.agent.door import BearerFile, DoorProblem, door_application, read_body, wire_response
from roadstead_worker.agent.epoch import EpochFile
from roadstead_worker.contract import (
    EPOCH_HEADER,
    ConfigAccepted,
    ConfigRequest,
    FetchRequest,
    Resolution,
    ResolveRequest,
)
from tests.simulation.calls import Cut, DoorCall
from tests.simulation.cell import SimulatedCell
from tests.simulation.fleet import SimulatedFleet
from tests.simulation.gateway import SimulatedGateway
from tests.simulation.line import Silence, abort
from tests.simulation.node import SimulatedNode

_BODY_LIMIT_BYTES = 32 * 1024 * 1024
_BACKLOG = 4096
"""A thousand agents' long polls are opened at once."""

T = TypeVar("T")


class Doors:
    """Handlers: a request into a call of the fleet, nothing else."""

    def __init__(self, fleet: SimulatedFleet) -> None:
        self._fleet = fleet

    def application(self, token: BearerFile) -> web.Application:
        application = door_application(token=token, body_limit_bytes=_BODY_LIMIT_BYTES)
        route = application.router
        route.add_get("/agents/{node}/state", self._agent_state)
        route.add_post("/agents/{node}/resolve", self._resolve)
        route.add_put("/agents/{node}/weights/{digest}", self._fetch)
        route.add_delete("/agents/{node}/weights/{digest}", self._forget)
        route.add_get("/cells/{cell}/state", self._cell_state)
        route.add_put("/cells/{cell}/config", self._configure)
        route.add_get("/gateways/{gateway}" + TALLIES_PATH, self._tallies)
        route.add_get("/control/world", self._world)
        route.add_get("/control/calls", self._calls)
        route.add_put("/control/silence/{door}", self._silence)
        route.add_put("/control/nodes/{node}", self._power)
        application.on_shutdown.append(self._answer_waiters)
        return application

    async def _answer_waiters(self, _application: web.Application) -> None:
        self._fleet.close()

    # --- node agents ---

    async def _agent_state(self, request: web.Request) -> web.StreamResponse:
        node = self._node(request)
        return await node.line.through(request, lambda: node.published.handle(request))

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        node = self._node(request)

        async def answer() -> web.Response:
            asked = await read_body(request, ResolveRequest)
            found = node.resolve(asked.source, asked.digest)
            return wire_response(
                Resolution(source=asked.source, digest=found.digest, bytes=found.bytes, facts=found.facts)
            )

        return await node.line.through(request, answer)

    async def _fetch(self, request: web.Request) -> web.StreamResponse:
        node = self._node(request)
        wanted = await read_body(request, FetchRequest)
        digest = request.match_info["digest"]

        def carry_out() -> web.Response:
            return wire_response(node.fetch(digest, wanted.source, wanted.bytes), status=202)

        return await node.line.through(
            request, lambda: self._mutate(request, node.epoch, f"agent {node.name}", f"/weights/{digest}", carry_out)
        )

    async def _forget(self, request: web.Request) -> web.StreamResponse:
        node = self._node(request)
        digest = request.match_info["digest"]

        def carry_out() -> web.Response:
            node.forget(digest)
            return web.Response(status=204)

        return await node.line.through(
            request, lambda: self._mutate(request, node.epoch, f"agent {node.name}", f"/weights/{digest}", carry_out)
        )

    def _node(self, request: web.Request) -> SimulatedNode:
        return _named(self._fleet.nodes, request.match_info["node"])

    # --- head agents ---

    async def _cell_state(self, request: web.Request) -> web.StreamResponse:
        cell = self._cell(request)
        return await cell.line.through(request, lambda: cell.published.handle(request))

    async def _configure(self, request: web.Request) -> web.StreamResponse:
        cell = self._cell(request)
        wanted = await read_body(request, ConfigRequest)

        def carry_out() -> web.Response:
            return wire_response(ConfigAccepted(base=cell.put(wanted)))

        return await cell.line.through(
            request, lambda: self._mutate(request, cell.epoch, f"cell {cell.name}", "/config", carry_out)
        )

    def _cell(self, request: web.Request) -> SimulatedCell:
        return _named(self._fleet.cells, request.match_info["cell"])

    async def _mutate(
        self, request: web.Request, epoch: EpochFile, door: str, path: str, carry_out: Callable[[], web.Response]
    ) -> web.StreamResponse:
        """Carry the call out, unless its caller is to die before it; answer, unless it is to die after it."""
        calls = self._fleet.calls
        call = DoorCall(door=door, method=request.method, path=path, epoch=request.headers.get(EPOCH_HEADER, ""))
        cut = calls.note(call)
        if cut in (Cut.BEFORE, Cut.LATE):
            await calls.cut()
        if cut is Cut.BEFORE:
            return abort(request)
        try:
            self._admit(request, epoch, call)
            answer = carry_out()
        finally:
            if cut is Cut.AFTER:
                await calls.cut()
        return answer

    def _admit(self, request: web.Request, epoch: EpochFile, call: DoorCall) -> None:
        try:
            epoch.admit_request(request)
        except DoorProblem:
            self._fleet.calls.stale.append(call)
            raise
        self._fleet.calls.admitted.append(call)

    # --- gateways ---

    async def _tallies(self, request: web.Request) -> web.StreamResponse:
        gateway: SimulatedGateway = _named(self._fleet.gateways, request.match_info["gateway"])

        async def answer() -> web.Response:
            return web.Response(body=gateway.tallies(), content_type="application/json")

        return await gateway.line.through(request, answer)

    # --- control ---

    async def _world(self, _request: web.Request) -> web.Response:
        return web.json_response(self._fleet.normalised())

    async def _calls(self, _request: web.Request) -> web.Response:
        calls = self._fleet.calls
        return web.json_response({"number": calls.number, "last": [str(call) for call in list(calls.seen)[-1000:]]})

    async def _silence(self, request: web.Request) -> web.Response:
        how = request.query.get("how", "")
        try:
            self._fleet.silence(request.match_info["door"], Silence(how) if how else None)
        except (KeyError, ValueError) as error:
            raise DoorProblem(status=404, code="NotFound", message=f"{error} is unknown") from None
        return web.Response(status=204)

    async def _power(self, request: web.Request) -> web.Response:
        node = self._node(request)
        if request.query.get("alive") == "false":
            self._fleet.kill_node(node.name)
        else:
            self._fleet.revive_node(node.name)
        return web.Response(status=204)


def _named(parts: dict[str, T], name: str) -> T:
    found = parts.get(name)
    if found is None:
        raise DoorProblem(status=404, code="NotFound", message=f"{name} is not simulated")
    return found


@asynccontextmanager
async def served(
    fleet: SimulatedFleet, *, token_file: Path, port: int = 0, kubeconfig: Path | None = None, namespace: str = ""
) -> AsyncIterator[str]:
    """Every door open for as long as the block lasts; gives their base address.

    With a kubeconfig the gateways watch the ModelRoutes of the namespace.
    """
    fleet.publish()
    runner = web.AppRunner(Doors(fleet).application(BearerFile(token_file)), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=_BACKLOG)
    await site.start()
    watches: list[asyncio.Task[None]] = []
    if kubeconfig is not None:
        access = find_access(kubeconfig)
        for gateway in fleet.gateways.values():
            gateway.watch = RouteWatch(
                gateway.table, lambda: access, namespace=namespace, clock=asyncio.get_running_loop().time
            )
            watches.append(asyncio.create_task(gateway.watch.run(), name=f"{gateway.name} watches"))
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        await runner.cleanup()
