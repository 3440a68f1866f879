"""A hand on one cell's Serve: puts configurations as the head agent does, looks, and asks replicas at their ports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from roadstead_worker.agent.cell_state import application_states
from roadstead_worker.agent.ray_rest import RayAway, RayDashboard, RayServe
from roadstead_worker.contract import NODE_LABEL, ApplicationState
from tests.fixtures.ray_cell import RayCell
from tests.ray.plain import DEPLOYMENT

_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.1
_REQUEST_SECONDS: Final = 5.0
SHUTDOWN_SECONDS: Final = 5


def plain(
    name: str,
    *,
    node: str = "node-a",
    replicas: int = 1,
    args: dict[str, Any] | None = None,
    user_config: dict[str, Any] | None = None,
    **options: Any,  # noqa: ANN401 - Ray's
) -> dict[str, Any]:
    """An application of one deployment, with the options that a slot has."""
    deployment = {
        "name": DEPLOYMENT,
        "num_replicas": replicas,
        "max_ongoing_requests": 4,
        "max_queued_requests": 8,
        "graceful_shutdown_timeout_s": SHUTDOWN_SECONDS,
        "health_check_period_s": 1,
        "health_check_timeout_s": 5,
        "max_surge_percent": 0,
        "ray_actor_options": {"num_cpus": 0, "label_selector": {NODE_LABEL: node}},
        "user_config": user_config or {},
        **options,
    }
    return {
        "name": name,
        "route_prefix": f"/s/{name}",
        "import_path": "tests.ray.plain:build",
        "args": args or {},
        "deployments": [deployment],
    }


class ServeHand:
    """Use as an async context."""

    def __init__(self, cell: RayCell) -> None:
        self.cell = cell

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        self.dashboard = self.with_token(self.cell.folder / "ray.token")
        return self

    async def __aexit__(self, _kind: type[BaseException] | None, _error: object, _at: TracebackType | None) -> None:
        await self._session.close()

    def with_token(self, token: Path | None) -> RayDashboard:
        return RayDashboard(address=self.cell.dashboard, token=token, session=self._session)

    async def put(self, *applications: dict[str, Any], **options: Any) -> None:  # noqa: ANN401 - Ray's
        """The whole configuration. ``options`` beside or in place of what the head agent sends."""
        http = {"host": self.cell.replica_host, "port": self.cell.ports["serve"]}
        await self.dashboard.put(
            {"proxy_location": "HeadOnly", "http_options": http, "applications": list(applications), **options}
        )

    async def states(self) -> dict[str, ApplicationState]:
        """As the head agent tells them."""
        return _states(await self.dashboard.serve(), self.cell)

    async def until(
        self, holds: Callable[[dict[str, ApplicationState]], object], what: str, *, seconds: float = _SECONDS
    ) -> dict[str, ApplicationState]:
        """What is told once that holds; an absent dashboard is waited for."""
        deadline = time.monotonic() + seconds
        states: dict[str, ApplicationState] = {}
        while True:
            try:
                states = await self.states()
                if holds(states):
                    return states
            except RayAway as error:
                away = str(error)
            else:
                away = ""
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what}; {away} {states}")
            await asyncio.sleep(_PAUSE_SECONDS)

    async def serving(self, *applications: dict[str, Any]) -> dict[str, ApplicationState]:
        """Put these and wait until each is RUNNING at as many addresses as it has replicas, and no other is left."""
        await self.put(*applications)
        wanted = {each["name"]: each["deployments"][0]["num_replicas"] for each in applications}

        def serves(seen: dict[str, ApplicationState]) -> bool:
            return {name: len(state.replicas) for name, state in seen.items()} == wanted and all(
                state.status == "RUNNING" and len(state.addresses) == wanted[state.name] for state in seen.values()
            )

        return await self.until(serves, f"{', '.join(wanted) or 'nothing'} serves")

    async def ask(self, state: ApplicationState, path: str = "told", *, address: str = "") -> dict[str, Any]:
        """What a replica tells of itself."""
        async with self.request(state, path, address=address) as answer:
            assert answer.status == 200, await answer.text()
            told: dict[str, Any] = await answer.json()
            return told

    def request(
        self, state: ApplicationState, path: str, *, address: str = "", seconds: float = _REQUEST_SECONDS
    ) -> aiohttp.client._RequestContextManager:
        url = f"http://{address or state.addresses[0]}/s/{state.name}/{path}"
        return self._session.get(url, timeout=aiohttp.ClientTimeout(total=seconds))

    async def raw(self, url: str) -> tuple[int, str, str]:
        """Status, type and text."""
        async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS)) as answer:
            return answer.status, answer.content_type, await answer.text()


def pids(state: ApplicationState) -> set[int]:
    return {replica.pid for replica in state.replicas}


def anew(state: ApplicationState | None, before: ApplicationState) -> bool:
    """Whether other replicas than before serve."""
    return state is not None and state.status == "RUNNING" and bool(state.addresses) and not pids(state) & pids(before)


def _states(serve: RayServe, cell: RayCell) -> dict[str, ApplicationState]:
    return {each.name: each for each in application_states(serve, replica_host=cell.replica_host)}
