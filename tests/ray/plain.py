"""An application that does nothing but tell what Ray did with it; in the shape of the product's own ``SlotReplica``.

Ray's workers import it as ``tests.ray.plain``. What happens to a replica before it listens, or after, goes to a file
that the test names in ``args``: a line each, ``WORD PID``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from ray.serve import Application

DEPLOYMENT: Final = "plain"


class Plain:
    """``args``: ``journal`` (where to write), ``fails_without`` (a file that the constructor demands), ``attempt``."""

    def __init__(self, args: dict[str, Any]) -> None:
        self._args = args
        self._calls: list[str] = []
        self._user_config: dict[str, Any] = {}
        self._sick = False
        self._working = 0
        self._left = 0
        self._note("init")
        demanded = args.get("fails_without")
        if demanded and not Path(demanded).exists():
            raise RuntimeError(f"{demanded} is not there yet")

    async def __serve_build_asgi_app__(self) -> Starlette:
        self._note("app")
        return Starlette(routes=[Route("/{path:path}", self._answer)])

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Returns after ``seconds`` of ``user_config``."""
        self._note("reconfigure")
        await asyncio.sleep(user_config.get("seconds", 0))
        self._user_config = user_config

    def check_health(self) -> None:
        if self._sick:
            raise RuntimeError("sick, as it was told to be")

    async def __del__(self) -> None:
        self._note("end")

    def _note(self, word: str) -> None:
        self._calls.append(word)
        if "journal" in self._args:
            with Path(self._args["journal"]).open("a") as journal:
                journal.write(f"{word} {os.getpid()}\n")

    async def _answer(self, request: Request) -> Response:
        match request.path_params["path"].rsplit("/", 1)[-1]:
            case "told":
                return self._told()
            case "sick":
                self._sick = True
                return self._told()
            case "work":
                return await self._work(float(request.query_params["seconds"]))
            case "stream":
                return StreamingResponse(self._events(int(request.query_params["tenths"])), media_type="text/plain")
            case _:
                return Response("no such thing here", 404)

    def _told(self) -> JSONResponse:
        return JSONResponse(
            {
                "pid": os.getpid(),
                "calls": self._calls,
                "args": self._args,
                "user_config": self._user_config,
                "working": self._working,
                "left": self._left,
            }
        )

    async def _work(self, seconds: float) -> Response:
        self._working += 1
        self._note("work")
        try:
            await asyncio.sleep(seconds)
        finally:
            self._working -= 1
        return self._told()

    async def _events(self, tenths: int) -> AsyncIterator[str]:
        """A line every tenth of a second."""
        self._working += 1
        try:
            for number in range(tenths):
                yield f"{number}\n"
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            self._left += 1
            raise
        finally:
            self._working -= 1
            self._note("streamed")


def build(args: dict[str, Any]) -> Application:
    """Ray's ``import_path``."""
    from ray import serve

    application: Application = serve.deployment(name=DEPLOYMENT)(serve.ingress()(Plain)).bind(args)
    return application
