"""Who may ask: whoever shows the API token in ``X-Roadstead-Api-Token``.

Not in ``Authorization``: the API is reached through the API server's service proxy, which takes that header for itself
and does not hand it on (docs/adr/0022). A missing token file closes the API: no token is not "everybody".
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from roadstead.api.problems import ApiCode, problem_response

TOKEN_HEADER: Final = "X-Roadstead-Api-Token"  # noqa: S105 - a header's name


class Guard:
    """An ASGI application in front of another; ``token`` raises ``OSError`` or ``ValueError`` while there is none."""

    def __init__(self, app: ASGIApp, *, token: Callable[[], str]) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            token = self._token().encode()
        except (OSError, ValueError):
            closed = problem_response(ApiCode.API_CLOSED, "This operator has no API token.")
            await closed(scope, receive, send)
            return
        # As bytes: compare_digest refuses text outside ASCII with an exception.
        shown = Headers(scope=scope).get(TOKEN_HEADER, "").encode("latin-1")
        if not hmac.compare_digest(shown, token):
            message = "The API token is wrong." if shown else "The API token is missing."
            refused = problem_response(ApiCode.UNAUTHORIZED, message, about=TOKEN_HEADER)
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)
