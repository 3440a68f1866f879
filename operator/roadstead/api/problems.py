"""Every error of the read API as ``{code, message, remedy, object}``: ours, the services' and the framework's."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from roadstead.api.answers import Problem
from roadstead.ports import DoorError

log = structlog.get_logger(__name__)


class ApiCode(StrEnum):
    """Why the read API does not answer; each is explained in ``docs/reference/read-api.md``."""

    UNAUTHORIZED = "Unauthorized"
    API_CLOSED = "ApiClosed"
    INVALID_REQUEST = "InvalidRequest"
    NOT_FOUND = "NotFound"
    MODEL_NOT_FOUND = "ModelNotFound"
    NODE_NOT_FOUND = "NodeNotFound"
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    TOO_MANY_STREAMS = "TooManyStreams"
    NOT_SYNCED = "NotSynced"
    PLAN_UNAVAILABLE = "PlanUnavailable"
    INTERNAL_ERROR = "InternalError"


_STATUSES: Final = {
    ApiCode.UNAUTHORIZED: 401,
    ApiCode.API_CLOSED: 503,
    ApiCode.INVALID_REQUEST: 400,
    ApiCode.NOT_FOUND: 404,
    ApiCode.MODEL_NOT_FOUND: 404,
    ApiCode.NODE_NOT_FOUND: 404,
    ApiCode.METHOD_NOT_ALLOWED: 405,
    ApiCode.TOO_MANY_STREAMS: 429,
    ApiCode.NOT_SYNCED: 503,
    ApiCode.PLAN_UNAVAILABLE: 503,
    ApiCode.INTERNAL_ERROR: 500,
}
_REMEDIES: Final = {
    ApiCode.UNAUTHORIZED: (
        "Send the API token in the header X-Roadstead-Api-Token: the key api.token of the Secret <release>-tokens, "
        "or on one machine the file that ROADSTEAD_API_TOKEN_FILE names."
    ),
    ApiCode.API_CLOSED: "See to it that the file ROADSTEAD_API_TOKEN_FILE exists and holds a token; it is read again.",
    ApiCode.INVALID_REQUEST: "Mend the parameter; /openapi.json lists all of them.",
    ApiCode.NOT_FOUND: "Look at /openapi.json for what there is.",
    ApiCode.MODEL_NOT_FOUND: "Look at /v1/models for those there are.",
    ApiCode.NODE_NOT_FOUND: "Look at /v1/nodes for those there are.",
    ApiCode.METHOD_NOT_ALLOWED: "Use GET: this API changes nothing. Models are changed with kubectl.",
    ApiCode.TOO_MANY_STREAMS: "End some that follow logs, or ask again in a while.",
    ApiCode.NOT_SYNCED: "Ask again in a few seconds; if it stays so, look at the operator's log.",
    ApiCode.PLAN_UNAVAILABLE: "Ask again in a few seconds; if it stays so, look at the operator's log.",
    ApiCode.INTERNAL_ERROR: "Look at the operator's log, which says what failed.",
}
_FRAMEWORK_CODES: Final = {404: ApiCode.NOT_FOUND, 405: ApiCode.METHOD_NOT_ALLOWED}
_OF_SERVICES: Final = frozenset({ApiCode.NOT_SYNCED, ApiCode.PLAN_UNAVAILABLE, ApiCode.NODE_NOT_FOUND})

DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Problem, "description": "A parameter cannot be understood (`InvalidRequest`)."},
    401: {"model": Problem, "description": "The token is missing or wrong (`Unauthorized`)."},
    503: {"model": Problem, "description": "`ApiClosed`, `NotSynced` or `PlanUnavailable`."},
}
"""What any endpoint may answer besides its own."""


class ApiProblem(Exception):
    """A ``Problem`` on its way to the caller."""

    def __init__(self, code: ApiCode, message: str, *, about: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.about = about


def problem_response(code: ApiCode, message: str, *, about: str = "") -> JSONResponse:
    problem = Problem(code=code, message=message, remedy=_REMEDIES[code], object=about)
    return JSONResponse(problem.model_dump(by_alias=True), status_code=_STATUSES[code])


def tell_problems(app: FastAPI) -> None:
    """Have every error of ``app`` told as a ``Problem``."""
    app.add_exception_handler(ApiProblem, _ours)
    app.add_exception_handler(DoorError, _of_services)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(Exception, _unforeseen)


async def _ours(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiProblem)  # noqa: S101 - Starlette types handlers by Exception
    return problem_response(error.code, error.message, about=error.about)


async def _of_services(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DoorError)  # noqa: S101 - as above
    code = ApiCode(error.code) if error.code in _OF_SERVICES else ApiCode.PLAN_UNAVAILABLE
    return problem_response(code, error.message)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    first = error.errors()[0]
    return problem_response(ApiCode.INVALID_REQUEST, f"{first['msg']}.", about=str(first["loc"][-1]))


async def _of_framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    code = _FRAMEWORK_CODES.get(error.status_code, ApiCode.INVALID_REQUEST)
    return problem_response(code, f"{error.detail}.", about=request.url.path)


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    """Without the error's text, which may quote secrets or paths."""
    log.error("api.failed", path=request.url.path, exc_info=error)
    return problem_response(ApiCode.INTERNAL_ERROR, "The operator failed.", about=request.url.path)
