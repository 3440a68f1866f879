"""The port that is not for clients: tallies for the operator, probes for the kubelet, metrics for Prometheus.

``/internal/*`` demands the door token. Probes and metrics do not: they tell of models, variants and nodes by name, so
the port belongs behind a NetworkPolicy all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from roadstead_gateway.contract import TALLIES_PATH, Tallies
from roadstead_gateway.keys import bearer_is


@dataclass(frozen=True, slots=True)
class Inside:
    """What the internal port can tell; every part is asked when somebody calls."""

    tallies: Callable[[], Tallies]
    door_token: Callable[[], str]
    metrics: Callable[[], bytes]
    unready: Callable[[], str]
    """Why no client should be sent here; empty when all is well."""


def internal_app(inside: Inside) -> Starlette:
    async def tallies(request: Request) -> Response:
        if not bearer_is(request.headers.get("authorization", ""), inside.door_token()):
            return JSONResponse(
                {"code": "Unauthorized", "message": "Send the door token."}, 401, {"WWW-Authenticate": "Bearer"}
            )
        return Response(inside.tallies().model_dump_json(by_alias=True), media_type="application/json")

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})  # that the loop turns is all there is to it: nothing here can get stuck

    async def readyz(_: Request) -> Response:
        why = inside.unready()
        return JSONResponse({"status": why or "ok"}, 503 if why else 200)

    async def metrics(_: Request) -> Response:
        return Response(inside.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Starlette(
        routes=[
            Route(TALLIES_PATH, tallies),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ]
    )
