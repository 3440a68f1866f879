"""The head agent before a scripted dashboard: what it tells when Ray is away, and how writes are refused.

That Ray answers as the script does is what ``tests/contract/ray`` shows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from roadstead_worker.agent import head
from roadstead_worker.agent.head import HeadSettings, serving
from roadstead_worker.agent.serve_config import base_digest
from roadstead_worker.contract import SLOT_IMPORT_PATH, ConfigAccepted, Problem, WorkerState
from tests.fixtures.head_door import HeadDoor

ALPHA: dict[str, Any] = {
    "name": "alpha",
    "route_prefix": "/s/alpha",
    "import_path": SLOT_IMPORT_PATH,
    "args": {},
    "deployments": [
        {
            "name": "Slot",
            "num_replicas": 1,
            "ray_actor_options": {"label_selector": {"roadstead.dev/node": "node-a"}},
            "user_config": {},
        }
    ],
}


@dataclass
class Dashboard:
    """Holds what was put, as Ray does; ``refuses`` makes it answer 400."""

    applications: list[dict[str, Any]] = field(default_factory=list)
    puts: list[dict[str, Any]] = field(default_factory=list)
    refuses: bool = False
    away: bool = False

    async def get(self, _request: web.Request) -> web.Response:
        if self.away:
            return web.Response(status=500)
        applications = {
            each["name"]: {"name": each["name"], "status": "RUNNING", "deployed_app_config": each}
            for each in self.applications
        }
        return web.json_response({"applications": applications, "target_groups": []})

    async def put(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer rays-own"
        if self.refuses:
            return web.Response(status=400, text="route_prefix is taken")
        self.puts.append(await request.json())
        self.applications = self.puts[-1]["applications"]
        return web.Response()

    async def nodes(self, _request: web.Request) -> web.Response:
        nodes = [
            {"state": "ALIVE", "labels": {"roadstead.dev/node": "node-a", "roadstead.dev/image": "0123456789ab"}},
            {"state": "ALIVE", "labels": {"roadstead.dev/node": "node-a"}},
            {"state": "DEAD", "labels": {"roadstead.dev/node": "node-b"}},
            {"state": "ALIVE", "labels": {}},
        ]
        return web.json_response({"result": True, "data": {"result": {"result": nodes}}})


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Dashboard, HeadDoor]]:
    dashboard = Dashboard()
    application = web.Application()
    application.router.add_get("/api/serve/applications/", dashboard.get)
    application.router.add_put("/api/serve/applications/", dashboard.put)
    application.router.add_get("/api/v0/nodes", dashboard.nodes)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (folder / "ray.token").write_text("rays-own")
    (folder / "door.token").write_text("doors-own")
    placeholder = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = placeholder.sockets[0].getsockname()[1]
    placeholder.close()
    await placeholder.wait_closed()
    settings = HeadSettings(
        cell="test",
        listen_host="127.0.0.1",
        listen_port=port,
        dashboard=f"http://127.0.0.1:{runner.addresses[0][1]}",
        ray_token=folder / "ray.token",
        state_dir=folder / "state",
        door_token=folder / "door.token",
        replica_host="127.9.9.9",
        serve_port=8123,
    )
    async with serving(settings), HeadDoor(f"http://127.0.0.1:{port}", "doors-own", epoch=7) as door:
        yield dashboard, door
    await runner.cleanup()


async def test_a_write_replaces_the_whole_configuration_with_the_fixed_options(tmp_path: Path) -> None:
    async with opened(tmp_path) as (dashboard, door):
        accepted = await door.put([ALPHA])
        assert accepted == ConfigAccepted(base=base_digest([ALPHA]))
        assert dashboard.puts == [
            {
                "proxy_location": "HeadOnly",
                "http_options": {"host": "127.9.9.9", "port": 8123},
                "applications": [ALPHA],
            }
        ]
        state = await door.state()
        assert (state.base, state.nodes, state.epoch) == (base_digest([ALPHA]), ("node-a",), 7)


async def test_living_workers_are_told_by_node_and_image(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, door):
        state = await door.state()
    assert state.workers == (WorkerState(node="node-a"), WorkerState(node="node-a", image="0123456789ab"))
    assert state.nodes == ("node-a",)


async def test_a_change_behind_our_back_since_the_last_look_refuses_the_write(tmp_path: Path) -> None:
    async with opened(tmp_path) as (dashboard, door):
        base = (await door.state()).base
        dashboard.applications = [ALPHA]
        refused = await door.put([], base=base)
        assert isinstance(refused, Problem)
        assert (refused.code, dashboard.puts) == ("BaseChanged", [])


async def test_rays_refusal_is_told_in_rays_words(tmp_path: Path) -> None:
    async with opened(tmp_path) as (dashboard, door):
        dashboard.refuses = True
        refused = await door.put([ALPHA])
        assert isinstance(refused, Problem)
        assert (refused.code, refused.message) == ("ConfigRefused", "route_prefix is taken")


async def test_an_epoch_survives_the_agent(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, door):
        await door.put([ALPHA])
    async with opened(tmp_path) as (_, door):
        refused = await door.put([], epoch=6)
        assert isinstance(refused, Problem)
        assert (refused.code, refused.epoch) == ("StaleEpoch", 7)


async def test_when_ray_is_away_the_last_good_answer_stands_and_writes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "UNREACHABLE_SECONDS", 0.1)
    monkeypatch.setattr(head, "BUSY_SECONDS", 0.02)
    async with opened(tmp_path) as (dashboard, door):
        await door.put([ALPHA])
        good = await door.state()
        dashboard.away = True
        async with asyncio.timeout(5):
            state = await door.state(good.digest)
        assert state.reachable is False
        assert (state.base, state.applications) == (good.base, good.applications)
        refused = await door.put([])
        assert isinstance(refused, Problem)
        assert refused.code == "CellUnreachable"
        dashboard.away = False
        async with asyncio.timeout(5):
            assert (await door.state(state.digest)).reachable


async def test_the_kubelet_learns_without_a_token_whether_ray_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "UNREACHABLE_SECONDS", 0.1)
    monkeypatch.setattr(head, "BUSY_SECONDS", 0.02)
    async with opened(tmp_path) as (dashboard, door), aiohttp.ClientSession() as kubelet:

        async def status(path: str) -> int:
            async with kubelet.get(door.address + path) as answer:
                return answer.status

        good = await door.state()
        assert (await status("/readyz"), await status("/healthz"), await status("/state")) == (200, 200, 401)
        dashboard.away = True
        async with asyncio.timeout(5):
            await door.state(good.digest)
        assert (await status("/readyz"), await status("/healthz")) == (503, 200)


async def test_two_writers_on_one_base_take_turns_and_the_second_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as (dashboard, door):
        base = (await door.state()).base
        answers = await asyncio.gather(door.put([ALPHA], base=base), door.put([ALPHA], base=base))
        assert sorted(type(answer).__name__ for answer in answers) == ["ConfigAccepted", "Problem"]
        assert len(dashboard.puts) == 1
