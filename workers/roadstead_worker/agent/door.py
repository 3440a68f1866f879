"""What every door of an agent has in common: who may enter, how large a request may be, how an error looks.

``door_application`` makes an aiohttp application in which

* every path but the kubelet's, ``/healthz`` and ``/readyz``, demands ``Authorization: Bearer <token>``; the token's
  file is read again when it changes and compared in constant time. A missing or empty file closes the door (503): no
  token is not "everybody may enter";
* every error is a ``Problem`` in JSON, also the framework's own (404, 405, 413). An unforeseen exception is logged and
  told as ``InternalError`` without its text, which may quote secrets or paths;
* a body is at most ``body_limit_bytes`` and is parsed strictly (``read_body``).
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Final, TypeVar

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import ValidationError

from roadstead_worker.contract import Problem, Wire

log = structlog.get_logger(__name__)

Body = TypeVar("Body", bound=Wire)

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
BODY_LIMIT_BYTES: Final = 1024 * 1024

_FRAMEWORK_CODES: Final = {
    400: "InvalidRequest",
    404: "NotFound",
    405: "MethodNotAllowed",
    413: "BodyTooLarge",
    415: "InvalidRequest",
}


class DoorProblem(Exception):
    """A ``Problem`` on its way to the caller, with the HTTP status it travels under."""

    def __init__(self, *, status: int, code: str, message: str, field: str = "", epoch: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = Problem(code=code, message=message, field=field, epoch=epoch)


class BearerFile:
    """The token that callers must show, re-read whenever its file changes (mounted Secrets are swapped by rename)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._token = b""

    def check(self, authorization: str) -> None:
        """Return if the header shows the token; else ``DoorProblem`` 401 ``Unauthorized`` or 503 ``DoorClosed``."""
        token = self._current()
        if not token:
            raise DoorProblem(
                status=503, code="DoorClosed", message="This door has no token yet: its token file is missing or empty."
            )
        scheme, _, shown = authorization.partition(" ")
        # Encoded, because compare_digest refuses str outside ASCII with an exception.
        matches = hmac.compare_digest(shown.strip().encode("utf-8", "surrogateescape"), token)
        if scheme.lower() != "bearer" or not matches:
            raise DoorProblem(
                status=401,
                code="Unauthorized",
                message="This door demands the bearer of door.token.",
                field="Authorization",
            )

    def _current(self) -> bytes:
        try:
            stat = self._path.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen != self._seen:
                self._token = self._path.read_bytes().strip()
                self._seen = seen
        except OSError:
            self._seen, self._token = None, b""
        return self._token


def door_application(*, token: BearerFile | None, body_limit_bytes: int = BODY_LIMIT_BYTES) -> web.Application:
    """An application with ``/healthz`` and the middlewares; ``token=None``: the door checks its peers otherwise."""
    middlewares: list[Middleware] = [problem_middleware]
    if token is not None:
        middlewares.append(bearer_middleware(token))
    application = web.Application(middlewares=middlewares, client_max_size=body_limit_bytes)
    application.router.add_get("/healthz", _healthz)
    return application


def problem_response(status: int, problem: Problem) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return wire_response(problem, status=status, headers=headers)


def wire_response(body: Wire, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=body.model_dump_json(), content_type="application/json", headers=headers)


async def read_body(request: web.Request, shape: type[Body]) -> Body:
    """The request's JSON as ``shape``; ``DoorProblem`` 400 ``InvalidRequest`` names the first field that is wrong.

    Strict: ``"7"`` and ``1.0`` are not integers, and unknown fields are refused.
    """
    raw = await request.read()
    try:
        return shape.model_validate_json(raw, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DoorProblem(
            status=400,
            code="InvalidRequest",
            message=f"The body is not a {shape.__name__}: {first['msg']}.",
            field=field,
        ) from None


@web.middleware
async def problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error leaves as a ``Problem``; cancellation passes through untouched."""
    try:
        return await handler(request)
    except DoorProblem as error:
        return problem_response(error.status, error.problem)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = _FRAMEWORK_CODES.get(error.status, "InvalidRequest")
        return problem_response(error.status, Problem(code=code, message=error.reason, field=request.path))
    except Exception:
        log.exception("request failed", method=request.method, path=request.path)
        return problem_response(500, Problem(code="InternalError", message="The agent failed; its log says why."))


def bearer_middleware(token: BearerFile) -> Middleware:
    """Demand the token on every path that is not in ``OPEN_PATHS``."""

    @web.middleware
    async def demand_bearer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in OPEN_PATHS:
            token.check(request.headers.get("Authorization", ""))
        return await handler(request)

    return demand_bearer


async def _healthz(_request: web.Request) -> web.Response:
    """Says only that the event loop turns: a caller without the bearer learns nothing else."""
    return web.json_response({"status": "ok"})
