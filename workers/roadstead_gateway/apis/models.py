"""``GET /v1/models`` and ``/v1/models/{id}``: what a client can ask for, by the names it would use.

A model that has a route is listed, ready or not: a client that configures itself from the list should not lose a model
because its last replica is being replaced. Not on the hot path, so Starlette does the routing.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from roadstead_gateway.errors import Refusal, model_not_found
from roadstead_gateway.routes import Entry, RouteTable


def models_app(table: RouteTable) -> Starlette:
    """The application behind the key for everything but the two POSTs."""

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": list_models(table)})

    async def model(request: Request) -> Response:
        name = request.path_params["model"]
        entry = table.find(name)
        if entry is None:
            raise model_not_found(name)
        return JSONResponse(_described(name, entry))

    return Starlette(
        routes=[Route("/v1/models", models), Route("/v1/models/{model:path}", model)],
        exception_handlers={HTTPException: _unknown_path, Refusal: _refused},
    )


def list_models(table: RouteTable) -> list[dict[str, object]]:
    """Every name a model is known by, in the order of names."""
    named = {name: entry for entry in table.entries() for name in entry.public_names if table.find(name) is entry}
    return [_described(name, named[name]) for name in sorted(named)]


def _described(name: str, entry: Entry) -> dict[str, object]:
    namespace = entry.route.spec.model.partition("/")[0]
    # When a model was made is not in the route, and OpenAI's clients demand a number.
    return {"id": name, "object": "model", "created": 0, "owned_by": namespace}


async def _unknown_path(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    words = {404: "There is nothing at this path.", 405: "This method is not allowed here."}
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "invalid_request")
    return _answer(Refusal(status, code, words.get(status, "This request cannot be answered.")))


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        raise error
    return _answer(error)


def _answer(refusal: Refusal) -> Response:
    return Response(refusal.body(), refusal.status, media_type="application/json")
