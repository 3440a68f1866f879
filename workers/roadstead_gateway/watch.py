"""Keeps the table of routes equal to the ModelRoutes of the API server: list, watch, and list again if that breaks.

What is guaranteed:

- While the API server is away, or answers nonsense, the routes in force stay in force.
- A deleted route goes at once: by its DELETED event, or by a list that has others but not it (what vanished while
  nobody watched leaves no event behind).
- An **empty list is not believed at once** if we hold routes: a restored or half-started API server gives one, and
  would take down every model. It is asked again after ``confirm_seconds``; empty twice is believed.
- A watch that says nothing, not even a bookmark, for ``silence_seconds`` is taken for dead.
- One object that cannot be read costs only its own news: the last good version of that route stays.

Every route is listed in one answer, unpaged: a thousand of them are a few megabytes.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
import structlog

from roadstead_gateway.kube import AccessUnknown, ApiAccess
from roadstead_gateway.routes import Route, RouteInvalid, RouteTable

log = structlog.stdlib.get_logger(__name__)

GROUP_VERSION: Final = "roadstead.dev/v1alpha1"
PLURAL: Final = "modelroutes"
_MAX_EVENT_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WatchTimes:
    """In seconds."""

    connect: float = 5.0
    list_answer: float = 30.0
    watch: float = 240.0
    """How long the API server is asked to keep one watch."""
    silence: float = 75.0
    """Bookmarks come about once a minute."""
    confirm: float = 5.0
    """Between an empty list and the one that confirms it."""
    backoff_first: float = 0.5
    backoff_most: float = 15.0


class _Gone(Exception):
    """410: the version we know is too old to watch from."""


class _Refused(Exception):
    """An answer that is not what was asked for."""


class RouteWatch:
    """Owns the connection to the API server; ``run`` is its one task."""

    def __init__(
        self,
        table: RouteTable,
        access: Callable[[], ApiAccess],
        *,
        namespace: str,
        clock: Callable[[], float],
        times: WatchTimes | None = None,
    ) -> None:
        self._table = table
        self._access = access
        self._path = f"/apis/{GROUP_VERSION}/namespaces/{namespace}/{PLURAL}"
        self._clock = clock
        self._times = times or WatchTimes()
        self._version: str | None = None
        self._invalid: set[str] = set()
        self.synced = False
        """Whether a watch stands that continues a list."""
        self.last_byte_at: float | None = None
        """When the API server was last heard, on ``clock``."""

    async def run(self) -> None:
        """List and watch for ever; every failure is logged, waited for and tried again."""
        failures = 0
        while True:
            began = self._clock()
            try:
                await self._follow()
                # One that ends as soon as it began would have us ask in a tight loop.
                failures = failures + 1 if self._clock() - began < self._times.backoff_first else 0
            except _Gone:
                log.info("watch_too_old")
                self._lose()
                failures += 1
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, _Refused, AccessUnknown) as error:
                # Words of ours only: an aiohttp error may carry headers.
                said = str(error) if isinstance(error, _Refused | AccessUnknown) else ""
                log.warning("watch_lost", error=type(error).__name__, said=said, routes=len(self._table))
                self.synced = False
                failures += 1
                if isinstance(error, _Refused | ValueError):
                    self._version = None
            if failures:
                # The first new try after a 410 or a cut comes soon, a storm of gateways does not come at once.
                most = min(self._times.backoff_most, self._times.backoff_first * 2 ** min(failures - 1, 10))
                await asyncio.sleep(most * random.uniform(0.5, 1.0))  # noqa: S311 - jitter is no secret

    def _lose(self) -> None:
        self.synced = False
        self._version = None

    async def _follow(self) -> None:
        """List if needed, then watch until the API server ends the watch as asked."""
        access = self._access()
        timeout = aiohttp.ClientTimeout(sock_connect=self._times.connect, sock_read=self._times.silence)
        connector = aiohttp.TCPConnector(ssl=access.tls)
        async with aiohttp.ClientSession(base_url=access.server, timeout=timeout, connector=connector) as session:
            if self._version is None:
                await self._list(session, access)
            await self._watch(session, access)

    async def _list(self, session: aiohttp.ClientSession, access: ApiAccess) -> None:
        items, version = await self._fetch_list(session, access)
        if not items and len(self._table):
            log.warning("empty_list_not_believed", routes=len(self._table), again_in_seconds=self._times.confirm)
            self.synced = False
            await asyncio.sleep(self._times.confirm)
            items, version = await self._fetch_list(session, access)
        routes: list[Route] = []
        self._invalid.clear()
        for item in items:
            route = self._read(item)
            if route is not None:
                routes.append(route)
        self._table.replace(routes, keep=self._invalid)
        self._version = version
        log.info("routes_listed", routes=len(routes), version=version)

    async def _fetch_list(self, session: aiohttp.ClientSession, access: ApiAccess) -> tuple[list[object], str]:
        timeout = aiohttp.ClientTimeout(total=self._times.list_answer, sock_connect=self._times.connect)
        async with session.get(self._path, headers=access.headers(), timeout=timeout) as answer:
            if answer.status != 200:
                raise _Refused(f"list answered {answer.status}")
            found = json.loads(await answer.read())
        self.last_byte_at = self._clock()
        match found:
            case {"items": list() as items, "metadata": {"resourceVersion": str() as version}} if version:
                return items, version
            case {"items": None, "metadata": {"resourceVersion": str() as version}} if version:
                return [], version
            case _:
                raise _Refused("list is not a list")

    async def _watch(self, session: aiohttp.ClientSession, access: ApiAccess) -> None:
        query = {
            "watch": "1",
            "resourceVersion": self._version or "",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(self._times.watch)),
        }
        async with session.get(self._path, params=query, headers=access.headers()) as answer:
            if answer.status == 410:
                raise _Gone
            if answer.status != 200:
                raise _Refused(f"watch answered {answer.status}")
            self.synced = True
            async for line in self._lines(answer):
                self._apply(json.loads(line))

    async def _lines(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Whole lines however long: aiohttp's own reader stops at 128 KiB, and a route of many slots is longer."""
        held = b""
        async for chunk in answer.content.iter_any():
            self.last_byte_at = self._clock()
            *lines, held = (held + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield line
            if len(held) > _MAX_EVENT_BYTES:
                raise _Refused("an event is too long")

    def _apply(self, event: object) -> None:
        match event:
            case {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str() as version}}}:
                self._version = version
            case {"type": "ADDED" | "MODIFIED", "object": {"metadata": {"resourceVersion": str() as version}} as found}:
                route = self._read(found)
                if route is not None:
                    self._table.put(route)
                self._version = version
            case {
                "type": "DELETED",
                "object": {"metadata": {"name": str() as name, "resourceVersion": str() as version}},
            }:
                self._invalid.discard(name)
                self._table.drop(name)
                self._version = version
            case {"type": "ERROR", "object": {"code": 410}}:
                raise _Gone
            case _:
                raise _Refused("watch sent something that is no event of ours")

    def _read(self, found: object) -> Route | None:
        try:
            return Route.parse(found if isinstance(found, dict) else {})
        except RouteInvalid as error:
            name = _name_of(found)
            log.warning("route_invalid", route=name, problem=str(error))
            self._invalid.add(name)
            return None


def _name_of(found: object) -> str:
    match found:
        case {"metadata": {"name": str() as name}}:
            return name
        case _:
            return ""
