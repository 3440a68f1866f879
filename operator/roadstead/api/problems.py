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
from roadstead.api.asked import NOBODY
from roadstead.domain.reasons import Reason
from roadstead.ports import DoorError
from roadstead.services.questions import InvalidSpec

log = structlog.get_logger(__name__)


class ApiCode(StrEnum):
    """Why the read API does not answer; each is explained in ``docs/reference/read-api.md``."""

    UNAUTHORIZED = "Unauthorized"
    API_CLOSED = "ApiClosed"
    INVALID_REQUEST = "InvalidRequest"
    NOT_FOUND = "NotFound"
    MODEL_NOT_FOUND = "ModelNotFound"
    NODE_NOT_FOUND = "NodeNotFound"
    INVALID_SPEC = "InvalidSpec"
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
    ApiCode.INVALID_SPEC: 400,
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
    ApiCode.INVALID_SPEC: "Mend the field; `kubectl explain localmodel.spec` tells of all of them.",
    ApiCode.METHOD_NOT_ALLOWED: "Only questions are asked here: models are changed with kubectl. See /openapi.json.",
    ApiCode.TOO_MANY_STREAMS: "End some that follow logs, or ask again in a while.",
    ApiCode.NOT_SYNCED: "Ask again in a few seconds; if it stays so, look at the operator's log.",
    ApiCode.PLAN_UNAVAILABLE: "Ask again in a few seconds; if it stays so, look at the operator's log.",
    ApiCode.INTERNAL_ERROR: "Look at the operator's log, which says what failed.",
}
_FRAMEWORK_CODES: Final = {404: ApiCode.NOT_FOUND, 405: ApiCode.METHOD_NOT_ALLOWED}
_OF_SERVICES: Final = frozenset(
    {ApiCode.NOT_SYNCED, ApiCode.PLAN_UNAVAILABLE, ApiCode.NODE_NOT_FOUND, ApiCode.MODEL_NOT_FOUND}
)
UNRESOLVED_STATUS: Final = 424
"""Nobody could say what is behind a source; the code is the reason code of it."""
_REMEDY_OF_SOURCES: Final = (
    "See the reference of reason codes; of a file on your own machine `roadstead fit FILE` reads the header itself."
)
_REMEDIES_OF_SOURCES: Final = {Reason.RESOLVING: "Ask again in a while: the agent goes on reading."}

DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Problem, "description": "A parameter or the body cannot be understood (`InvalidRequest`)."},
    401: {"model": Problem, "description": "The token is missing or wrong (`Unauthorized`)."},
    503: {"model": Problem, "description": "`ApiClosed`, `NotSynced` or `PlanUnavailable`."},
}
"""What any endpoint may answer besides its own."""


class ApiProblem(Exception):
    """A ``Problem`` on its way to the caller."""

    def __init__(self, code: ApiCode | Reason, message: str, *, about: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.about = about


def problem_response(code: ApiCode | Reason, message: str, *, about: str = "") -> JSONResponse:
    """A code of the API has a status and a remedy of its own; a reason code is about a source."""
    if isinstance(code, ApiCode):
        status, remedy = _STATUSES[code], _REMEDIES[code]
    else:
        status, remedy = UNRESOLVED_STATUS, _REMEDIES_OF_SOURCES.get(code, _REMEDY_OF_SOURCES)
    problem = Problem(code=code, message=message, remedy=remedy, object=about)
    return JSONResponse(problem.model_dump(by_alias=True), status_code=status)


def tell_problems(app: FastAPI) -> None:
    """Have every error of ``app`` told as a ``Problem``."""
    app.add_exception_handler(ApiProblem, _ours)
    app.add_exception_handler(DoorError, _of_services)
    app.add_exception_handler(InvalidSpec, _invalid_spec)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(Exception, _unforeseen)


async def _ours(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiProblem)  # noqa: S101 - Starlette types handlers by Exception
    return problem_response(error.code, error.message, about=error.about)


async def _of_services(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DoorError)  # noqa: S101 - as above
    code = ApiCode(error.code) if error.code in _OF_SERVICES else ApiCode.PLAN_UNAVAILABLE
    return problem_response(code, sentence(error.message))


async def _invalid_spec(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, InvalidSpec)  # noqa: S101 - as above
    about = error.path if error.key == NOBODY else f"{error.key} {error.path}"
    return problem_response(ApiCode.INVALID_SPEC, sentence(str(error)), about=about)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    first = error.errors()[0]
    return problem_response(ApiCode.INVALID_REQUEST, f"{first['msg']}.", about=str(first["loc"][-1]))


async def _of_framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    code = _FRAMEWORK_CODES.get(error.status_code, ApiCode.INVALID_REQUEST)
    return problem_response(code, f"{error.detail}.", about=request.url.path)


def sentence(words: str) -> str:
    """Words that somebody else chose, with an end."""
    return words if words.endswith(".") else f"{words}."


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    """Without the error's text, which may quote secrets or paths."""
    log.error("api.failed", path=request.url.path, exc_info=error)
    return problem_response(ApiCode.INTERNAL_ERROR, "The operator failed.", about=request.url.path)
