"""The node agent's two doors: the operator's over TCP, the replicas' over a unix socket.

Handlers translate, nothing else: a request into a call, a ``WeightsError`` into a ``Problem`` with a status. The unix
socket has no bearer; it asks the kernel who is calling and lets in the agent's own user only.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from roadstead_weights.digests import Digest, parse_digest
from roadstead_weights.errors import WeightsCode, WeightsError
from roadstead_worker.agent.door import BearerFile, DoorProblem, door_application, read_body, wire_response
from roadstead_worker.agent.engine_logs import EngineLogs
from roadstead_worker.agent.longpoll import PublishedState
from roadstead_worker.agent.node_state import NodeParts
from roadstead_worker.agent.resolver import Resolver
from roadstead_worker.contract import (
    FetchRequest,
    LeaseGrant,
    LeaseMemory,
    LeaseRequest,
    Measurement,
    NodeState,
    Progress,
    ResolveRequest,
)

_STATUSES: Final = {
    WeightsCode.SOURCE_NOT_ALLOWED: 403,
    WeightsCode.SOURCE_UNAUTHORIZED: 403,
    WeightsCode.SOURCE_NOT_FOUND: 404,
    WeightsCode.SOURCE_UNAVAILABLE: 502,
    WeightsCode.INSUFFICIENT_DISK: 507,
}
"""Everything else is about the file itself: 422."""
_PEER_CREDENTIALS: Final = struct.Struct("iII")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDoors:
    """Makes the applications of both doors. ``poke`` is called after everything that changes the node's state."""

    parts: NodeParts
    resolver: Resolver
    published: PublishedState[NodeState]
    logs: EngineLogs
    poke: Callable[[], None]

    def operator_application(self, token: BearerFile) -> web.Application:
        application = door_application(token=token)
        application.router.add_get("/state", self.published.handle)
        application.router.add_post("/resolve", self._resolve)
        application.router.add_put("/weights/{digest}", self._put_weights)
        application.router.add_delete("/weights/{digest}", self._delete_weights)
        application.router.add_get("/logs", self.logs.list_logs)
        application.router.add_get("/logs/{slot}", self.logs.read_log)
        application.on_shutdown.append(self._answer_waiters)
        application.on_shutdown.append(self.logs.close)
        return application

    def replica_application(self) -> web.Application:
        application = door_application(token=None)
        application.middlewares.append(demand_own_user)
        application.router.add_post("/leases", self._post_lease)
        application.router.add_post("/leases/memory", self._post_lease_memory)
        application.router.add_post("/measurements", self._post_measurement)
        return application

    async def _answer_waiters(self, _application: web.Application) -> None:
        self.published.close()

    async def _resolve(self, request: web.Request) -> web.Response:
        body = await read_body(request, ResolveRequest)
        try:
            answer = await self.resolver.resolve(body)
        except WeightsError as error:
            raise as_door_problem(error) from error
        if isinstance(answer, Progress):
            return wire_response(answer, status=202)
        self.poke()
        return wire_response(answer)

    async def _put_weights(self, request: web.Request) -> web.Response:
        digest = _digest_of(request)
        body = await read_body(request, FetchRequest)
        if body.bytes <= 0:
            raise DoorProblem(status=400, code="InvalidRequest", message="An artifact has bytes.", field="bytes")
        self.parts.epoch.admit_request(request)
        try:
            state = self.parts.weights.ask(digest, body)
        except WeightsError as error:
            raise as_door_problem(error) from error
        self.poke()
        return wire_response(state, status=202)

    async def _delete_weights(self, request: web.Request) -> web.Response:
        digest = _digest_of(request)
        self.parts.epoch.admit_request(request)
        self.parts.leases.refresh()
        user = self.parts.leases.uses(str(digest))
        if user is not None:
            raise DoorProblem(
                status=409,
                code="ArtifactInUse",
                message=f"{digest} is used by {user}; it can be removed when that slot has ended.",
                field=user,
            )
        await self.parts.weights.remove(digest)
        self.poke()
        return web.Response(status=204)

    async def _post_lease(self, request: web.Request) -> web.Response:
        body = await read_body(request, LeaseRequest)
        _not_negative(body.bytes)
        _not_negative(body.device_bytes, field="device_bytes")
        digest = parse_digest(body.artifact)
        if self.parts.store.size_of(digest) is None:
            raise DoorProblem(
                status=409,
                code="ArtifactNotReady",
                message=f"{digest} is not in this node's store: its fetch has not ended.",
                field=str(digest),
            )
        self.parts.leases.grant(body)
        self.poke()
        path = self.parts.store.blob_path(digest)
        return wire_response(LeaseGrant(path=str(path), threads=self.parts.budget.current().cores))

    async def _post_lease_memory(self, request: web.Request) -> web.Response:
        body = await read_body(request, LeaseMemory)
        _not_negative(body.bytes)
        self.parts.leases.measured(body)
        self.poke()
        return web.Response(status=204)

    async def _post_measurement(self, request: web.Request) -> web.Response:
        self.parts.measurements.put(await read_body(request, Measurement))
        self.poke()
        return web.Response(status=204)


@web.middleware
async def demand_own_user(request: web.Request, handler: Handler) -> web.StreamResponse:
    """403 ``Unauthorized`` unless the process at the other end of the unix socket has our own user id."""
    connection = None if request.transport is None else request.transport.get_extra_info("socket")
    if connection is None:
        raise DoorProblem(status=403, code="Unauthorized", message="The caller cannot be known.")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    _pid, uid, _gid = _PEER_CREDENTIALS.unpack(raw)
    if uid != os.getuid():
        raise DoorProblem(status=403, code="Unauthorized", message=f"User {uid} may not use this node's socket.")
    return await handler(request)


def as_door_problem(error: WeightsError) -> DoorProblem:
    return DoorProblem(status=_STATUSES.get(error.code, 422), code=error.code, message=error.message, field=error.field)


def _not_negative(size: int, *, field: str = "bytes") -> None:
    if size < 0:
        raise DoorProblem(status=400, code="InvalidRequest", message="Bytes are not negative.", field=field)


def _digest_of(request: web.Request) -> Digest:
    try:
        return parse_digest(request.match_info["digest"])
    except WeightsError as error:
        raise DoorProblem(status=400, code="InvalidRequest", message=error.message, field="digest") from error
