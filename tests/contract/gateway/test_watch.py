"""Routes by list and watch: gaps, ghosts, empty lists, an API server that is away, and the file of last good routes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.fixtures.fake_replica import FakeReplica
from tests.fixtures.fake_route_api import FakeRouteApi, route_object, slot
from tests.fixtures.gateway import (
    BEARER,
    DOOR_TOKEN,
    KEY,
    REPLICA_TOKEN,
    Client,
    listens,
    running_gateway,
    write_files,
)
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract


@pytest.fixture
async def api() -> AsyncIterator[FakeRouteApi]:
    async with FakeRouteApi() as fake:
        yield fake


@pytest.fixture
async def gateway(tmp_path: Path, api: FakeRouteApi) -> AsyncIterator[Client]:
    api.put("one")
    api.put("two")
    async with running_gateway(tmp_path, api=api.url) as client:
        await until(lambda: api.watching and len(client.gateway.table) == 2, "the first list and watch")
        yield client


def names(gateway: Client) -> set[str]:
    return {entry.route.name for entry in gateway.gateway.table.entries()}


async def test_changes_arrive_by_watch(gateway: Client, api: FakeRouteApi) -> None:
    api.put("three")
    api.put("one", names=["uno"])
    api.delete("two")
    await until(lambda: names(gateway) == {"one", "three"}, "all three changes")
    assert gateway.gateway.table.find("uno") is not None
    assert gateway.gateway.table.find("one") is None
    found = await gateway.tallies()
    assert found["synced"] is True
    assert {route["name"]: route["resourceVersion"] for route in found["routes"]} == {"three": "4", "one": "5"}
    assert api.lists == 1
    assert api.tokens == {"Bearer api-token"}


async def test_a_cut_watch_goes_on_from_where_it_was(gateway: Client, api: FakeRouteApi) -> None:
    api.tell("BOOKMARK", {"metadata": {"resourceVersion": "17"}})
    api.put("three")
    await until(lambda: "three" in names(gateway), "the change")
    api.cut_watches()
    await until(lambda: len(api.watched_from) == 2, "a second watch")
    assert (api.watched_from[-1], api.lists) == (str(api.version), 1)


@pytest.mark.parametrize("how", ["answered", "event"])
async def test_what_vanished_while_nobody_watched_is_gone_after_410(
    gateway: Client, api: FakeRouteApi, how: str
) -> None:
    api.delete_unseen("two")
    if how == "answered":
        api.refuse_watches.append(410)
        api.cut_watches()
    else:
        api.tell("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})
    await until(lambda: names(gateway) == {"one"}, "the ghost is gone")
    assert api.lists == 2


async def test_an_event_that_makes_no_sense_costs_a_new_list_not_the_routes(gateway: Client, api: FakeRouteApi) -> None:
    api.say(b'{"type": "ADDED", "object": \n')
    await until(lambda: api.lists == 2 and api.watching, "listed again")
    assert names(gateway) == {"one", "two"}


async def test_an_event_may_be_long(gateway: Client, api: FakeRouteApi) -> None:
    api.put("wide", slots=[slot(f"s{number}", f"10.0.0.1:{30000 + number}") for number in range(3000)])
    await until(lambda: "wide" in names(gateway), "a route of 3,000 slots")


async def test_one_object_that_is_no_route_keeps_its_last_good_version(gateway: Client, api: FakeRouteApi) -> None:
    api.put("one", slots=[{"name": "half"}])
    api.put("three")
    await until(lambda: "three" in names(gateway), "the change behind it")
    assert names(gateway) == {"one", "two", "three"}
    api.tell("ERROR", {"code": 410})
    await until(lambda: api.lists == 2 and api.watching, "listed again")
    assert names(gateway) == {"one", "two", "three"}


async def test_an_empty_list_is_believed_only_when_it_is_confirmed(gateway: Client, api: FakeRouteApi) -> None:
    api.empty_lists = 1
    api.tell("ERROR", {"code": 410})
    await until(lambda: api.lists == 3 and api.watching, "listed twice more")
    assert names(gateway) == {"one", "two"}
    api.empty_lists = 2
    api.tell("ERROR", {"code": 410})
    await until(lambda: not names(gateway), "empty twice")
    assert api.lists == 5


async def test_the_last_route_goes_at_once_when_it_is_deleted(gateway: Client, api: FakeRouteApi) -> None:
    api.delete("one")
    api.delete("two")
    await until(lambda: not names(gateway), "both are gone")
    assert api.lists == 1


async def test_an_api_server_in_trouble_changes_no_route(gateway: Client, api: FakeRouteApi) -> None:
    api.refuse_lists.extend([500, 403, 429])
    api.tell("ERROR", {"code": 410})
    await until(lambda: not (gateway.gateway.tallies().synced), "unsynced")
    assert names(gateway) == {"one", "two"}
    await until(lambda: gateway.gateway.tallies().synced, "synced again")
    assert api.lists == 5


async def test_a_silent_watch_is_taken_for_dead(
    tmp_path: Path, api: FakeRouteApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roadstead_gateway.watch import WatchTimes
    from tests.fixtures import gateway as fixture

    monkeypatch.setattr(fixture, "QUICK", WatchTimes(silence=0.2, backoff_first=0.05))
    async with running_gateway(tmp_path, api=api.url):
        await until(lambda: len(api.watched_from) >= 3, "the watch was begun anew")
    assert api.lists == 1


async def test_routes_are_kept_in_a_private_file_and_served_without_an_api_server(tmp_path: Path) -> None:
    async with FakeReplica() as replica:
        async with FakeRouteApi() as api:
            api.put("tiny", slots=[slot("s1", replica.address)])
            async with running_gateway(tmp_path, api=api.url) as gateway:
                await until(lambda: names(gateway) == {"tiny"}, "the route")
                await until((tmp_path / "state" / "routes.json").exists, "the file")
        kept = tmp_path / "state" / "routes.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert not {KEY, REPLICA_TOKEN, DOOR_TOKEN} & set(kept.read_text().split('"'))
        async with running_gateway(tmp_path) as gateway:
            async with gateway.session.get(f"{gateway.internal_url}/readyz") as answer:
                assert answer.status == 200
            async with gateway.post() as answer:
                assert answer.status == 200
            assert gateway.gateway.tallies().synced is False


@pytest.mark.parametrize("rubbish", ["", "{", "[]", '{"format": 1}', '{"format": 2, "routes": []}'])
async def test_a_file_that_is_not_ours_counts_as_none(tmp_path: Path, rubbish: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "routes.json").write_text(rubbish)
    async with running_gateway(tmp_path) as gateway:
        assert not names(gateway)
        async with gateway.session.get(f"{gateway.internal_url}/readyz") as answer:
            assert answer.status == 503


async def test_the_process_serves_keeps_secrets_out_of_its_log_and_ends_on_sigterm(
    tmp_path: Path, api: FakeRouteApi
) -> None:
    async with FakeReplica() as replica:
        api.put("tiny", slots=[slot("s1", replica.address)])
        given = write_files(tmp_path, api=api.url)
        environment = {f"ROADSTEAD_{name.upper()}": str(value) for name, value in given.items() if name != "kubeconfig"}
        environment |= {"KUBECONFIG": str(given["kubeconfig"]), "ROADSTEAD_LOG_LEVEL": "DEBUG"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "roadstead_gateway", env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE
        )
        try:
            await until(lambda: api.watching and listens(given["listen"]), "the gateway serves", seconds=20)
            url = f"http://{given['listen']}/v1/chat/completions"
            asked = {"model": "tiny", "messages": [{"role": "user", "content": "PROMPT-MARKER"}]}
            async with aiohttp.ClientSession() as session:
                async with session.post(url, json=asked, headers=BEARER) as answer:
                    assert answer.status == 200
                replica.stop_listening()
                await replica.__aexit__()
                async with session.post(url, json=asked, headers=BEARER) as answer:
                    assert answer.status == 503
                async with session.post(url, data=b"PROMPT-MARKER", headers=BEARER) as answer:
                    assert answer.status in {400, 415}
        finally:
            process.send_signal(signal.SIGTERM)
            output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0
    text = output.decode()
    assert [line for line in text.splitlines() if json.loads(line)["event"] == "gateway_serves"]
    assert not [secret for secret in (KEY, REPLICA_TOKEN, DOOR_TOKEN, "PROMPT-MARKER", "api-token") if secret in text]


async def test_settings_that_are_missing_are_named(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "roadstead_gateway", env={"PATH": os.environ["PATH"]}, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert b"ROADSTEAD_KEYS_FILE: Field required" in said


def test_the_fixture_makes_what_the_api_server_makes() -> None:
    assert route_object("x", 3)["metadata"] == {"name": "x", "resourceVersion": "3"}
