"""The read API tells what this operator sees and what it would do, on the leader and on a standby."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from roadstead.domain.inventory import Device, Vendor
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode
from tests.fixtures.memory_pods import MemoryPods, image, pool
from tests.fixtures.read_api import SECRET, VARIANTS, ReadApi, running_read_api, two_nodes

pytestmark = pytest.mark.contract
PATHS = ("/v1/models", "/v1/models/team/assistant", "/v1/nodes", "/v1/pools", "/v1/plan", "/v1/what-if?drain=node-b")


async def test_a_model_is_told_with_the_reason_for_every_choice(api: ReadApi) -> None:
    (row,) = (await api.answer("/v1/models"))["items"]
    assert (row["namespace"], row["name"], row["status"], row["wanted"], row["ready"]) == (
        "team", "assistant", "Ready", 2, 2,
    )  # fmt: skip
    assert (row["variants"], row["nodes"]) == (["bf16", "q4"], ["node-a", "node-b"])
    model = (await api.answer("/v1/models/team/assistant"))["model"]
    bf16 = next(variant for variant in model["ladder"] if variant["name"] == "bf16")
    assert (bf16["verdict"], bf16["chosen"]) == ("Chosen", 1)
    assert "not on node-b: needs 616.6 MiB" in bf16["message"]
    assert {slot["node"]: slot["variant"] for slot in model["slots"]} == {"node-a": "bf16", "node-b": "q4"}
    assert model["current"]["number"] == model["release"] == 1
    assert {row["type"] for row in model["conditions"]} >= {"Ready", "Placed"}


async def test_what_would_follow_from_a_change_is_told_and_nothing_is_done(api: ReadApi) -> None:
    applications = dict(api.fleet.applications)
    told = await api.answer("/v1/what-if?drain=node-a&add=node-b:2")
    assert told["models"] == [
        {
            "namespace": "team",
            "name": "assistant",
            "stops": [{"node": "node-a", "variant": "bf16", "replicas": 1}],
            "starts": [{"node": "node-b-like-1", "variant": "q4", "replicas": 1}],
            "pending": 0,
            "pendingThen": 0,
            "why": "",
        }
    ]
    assert told["unchanged"] == 0
    assert api.fleet.applications == applications


async def test_a_node_that_there_is_not_cannot_be_drained_in_thought_either(api: ReadApi) -> None:
    status, problem = await api.get("/v1/what-if?drain=elsewhere")
    assert (status, problem["code"]) == (404, "NodeNotFound")
    assert "elsewhere" in problem["message"]


async def test_nodes_are_told_with_what_they_have_and_what_runs_there(api: ReadApi) -> None:
    first, second = (await api.answer("/v1/nodes"))["items"]
    assert (first["name"], first["pool"], first["cell"], first["ready"]) == ("node-a", "local", "cell-0", True)
    assert (first["agent"]["state"], first["memoryBudgetBytes"], first["cores"]) == ("Known", 2000 << 20, 2)
    assert [(slot["model"], slot["variant"], slot["status"]) for slot in first["slots"]] == [
        ("team/assistant", "bf16", "RUNNING")
    ]
    assert [weights["phase"] for weights in second["weights"]] == ["Ready"]


async def test_a_node_is_told_with_its_accelerators_and_with_what_is_not_certain_of_them(api: ReadApi) -> None:
    api.leading.append(False)
    card = Device(id="GPU-0", vendor=Vendor.NVIDIA, product="NVIDIA-L4", memory_bytes=23034 * MIB, free_bytes=9 * MIB)
    api.fleet.nodes["node-a"].devices = (card,)
    api.fleet.nodes["node-c"] = MemoryNode(budget=MIB, agent_answers=False, allocatable={"habana.ai/gaudi": 8})
    first, second, third = (await api.answer("/v1/nodes"))["items"]
    assert first["devices"] == [
        {
            "product": "NVIDIA-L4",
            "vendor": "NVIDIA",
            "memoryBytes": 23034 * MIB,
            "freeBytes": 9 * MIB,
            "migProfile": "",
            "clients": 1,
        }
    ]
    assert (second["devices"], second["ambiguities"]) == ([], [])
    assert third["ambiguities"] == ["8 habana.ai/gaudi are offered, and nothing tells of their memory"]


async def test_a_part_that_does_not_answer_is_told_as_such(api: ReadApi) -> None:
    api.leading.append(False)
    api.fleet.nodes["node-a"].agent_answers = False
    api.fleet.cell_answers = False
    api.fleet.ledger_answers = False
    first, second = (await api.answer("/v1/nodes"))["items"]
    assert (first["agent"]["state"], second["agent"]["state"]) == ("Stale", "Known")
    assert first["cellSource"]["since"] == second["cellSource"]["since"] is not None
    plan = await api.answer("/v1/plan")
    assert plan["ledger"] == {"state": "Unknown", "since": None, "why": "never answered"}


async def test_pools_are_told_with_their_nodes_and_images(api: ReadApi) -> None:
    (pool,) = (await api.answer("/v1/pools"))["items"]
    assert (pool["name"], pool["nodes"]) == ("local", ["node-a", "node-b"])
    assert [(row["engine"], row["offered"]) for row in pool["engines"]] == [("LlamaCpp", "xllamacpp==1")]


async def test_the_leader_tells_its_last_turn_and_how_old_that_is(api: ReadApi) -> None:
    await api.turn()
    turned = api.fleet.now
    api.fleet.now += timedelta(seconds=40)
    answer = await api.answer("/v1/plan")
    assert (answer["leading"], answer["ageSeconds"]) == (True, 40.0)
    assert answer["plannedAt"] == turned.isoformat().replace("+00:00", "Z")


async def test_the_plan_tells_its_actions_in_order_and_in_words(tmp_path: Path) -> None:
    fleet = two_nodes()
    fleet.apply("assistant", *VARIANTS)
    async with running_read_api(tmp_path, fleet=fleet) as api:
        await api.turn()
        actions = (await api.answer("/v1/plan"))["actions"]
    assert actions[0] == {
        "kind": "SetFinalizer",
        "object": "team/assistant",
        "message": "set the finalizer, so that nothing is left behind at its end",
    }
    assert {action["kind"] for action in actions} == {"SetFinalizer", "Resolve"}
    assert "ask what is behind https://models.example/big.gguf" in {action["message"] for action in actions}


async def test_a_standby_tells_the_same_as_the_leader_and_writes_nothing(api: ReadApi) -> None:
    await api.turn()
    led = [await api.answer(path) for path in PATHS]
    before = list(api.fleet.writes)
    api.leading.append(False)
    stood_by = [await api.answer(path) for path in PATHS]
    assert [answer.pop("leading") for answer in stood_by] == [False] * len(PATHS)
    assert [answer.pop("leading") for answer in led] == [True] * len(PATHS)
    assert stood_by == led
    assert api.fleet.writes == before


async def test_a_standby_that_knows_no_answer_asks_the_agents_and_does_nothing_else(tmp_path: Path) -> None:
    fleet = two_nodes()
    fleet.apply("assistant", *VARIANTS)
    async with running_read_api(tmp_path, fleet=fleet) as api:
        api.leading.append(False)
        answer = await api.answer("/v1/plan")
    (model,) = answer["models"]
    assert [variant["bytes"] for variant in model["ladder"]] == [500 << 20, 100 << 20]
    assert [action["kind"] for action in answer["actions"]] == ["SetFinalizer"]
    assert fleet.writes == []


async def test_a_standby_plans_once_for_questions_that_come_together(api: ReadApi, fleet: MemoryFleet) -> None:
    api.leading.append(False)
    answers = await asyncio.gather(*(api.answer(path) for path in PATHS * 3))
    assert len({answer["plannedAt"] for answer in answers}) == 1
    fleet.now += timedelta(seconds=6)
    assert (await api.answer("/v1/plan"))["ageSeconds"] == 0


async def test_nothing_is_told_before_the_lists_have_been_read(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.outlook._ports.cluster, "synced", False)
    for path in (*PATHS, "/v1/models/team/assistant/logs"):
        status, problem = await api.get(path)
        assert (status, problem["code"]) == (503, "NotSynced"), path


async def test_planning_that_fails_is_told_without_its_reason_s_secrets(
    api: ReadApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_slow(*_: object) -> None:
        raise TimeoutError

    async def broken(*_: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(api.outlook, "_planner", too_slow)
    assert (await api.get("/v1/plan"))[1]["code"] == "PlanUnavailable"
    monkeypatch.setattr(api.outlook, "_planner", broken)
    status, problem = await api.get("/v1/plan")
    assert (status, problem["code"]) == (500, "InternalError")
    assert SECRET not in json.dumps(problem)


@pytest.mark.parametrize(
    ("path", "status", "code", "about"),
    [
        ("/v1/models/team/nobody", 404, "ModelNotFound", "team/nobody"),
        ("/v1/models/team/nobody/logs", 404, "ModelNotFound", "team/nobody"),
        ("/v1/models/Team/assistant", 400, "InvalidRequest", "namespace"),
        ("/v1/models/team/assistant/logs?lines=many", 400, "InvalidRequest", "lines"),
        ("/v1/models/team/assistant/logs?lines=10001", 400, "InvalidRequest", "lines"),
        ("/v1/models/team/assistant/logs?follow=perhaps", 400, "InvalidRequest", "follow"),
        ("/v1/nodes/", 404, "NotFound", "/v1/nodes/"),
        ("/", 404, "NotFound", "/"),
        ("/docs", 404, "NotFound", "/docs"),
    ],
)
async def test_every_error_has_a_code_a_sentence_the_object_and_the_remedy(
    path: str, status: int, code: str, about: str, api: ReadApi
) -> None:
    told, problem = await api.get(path)
    assert (told, problem["code"], problem["object"]) == (status, code, about)
    assert set(problem) == {"code", "message", "remedy", "object"}
    assert problem["message"].endswith(".")
    assert problem["remedy"].endswith(".")


async def test_it_only_reads(api: ReadApi) -> None:
    headers = {"X-Roadstead-Api-Token": "the-api-token"}
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        async with api.session.request(method, f"{api.url}/v1/models", headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (405, "MethodNotAllowed")


async def test_no_address_of_a_replica_and_nothing_of_a_source_but_its_path_is_told(api: ReadApi) -> None:
    await api.turn()
    for path in PATHS:
        told = json.dumps(await api.answer(path))
        assert "127.0.0.1" not in told, path
        assert SECRET not in told, path


async def test_pods_and_the_images_of_pools_are_told_where_workers_are_pods(tmp_path: Path) -> None:
    adopted, offered = image("a"), image("b")
    fleet = MemoryFleet(nodes={"node-a": MemoryNode(budget=1000 * MIB)}, pools=[pool(adopted)], pods=MemoryPods())
    await fleet.settle()
    fleet.pools = [replace(fleet.pools[0], engines=(offered,))]
    async with running_read_api(tmp_path, fleet=fleet) as api:
        api.leading.append(False)
        (node,) = (await api.answer("/v1/nodes"))["items"]
        (told,) = (await api.answer("/v1/pools"))["items"]
    assert {(pod["role"], pod["ready"]) for pod in node["pods"]} == {("agent", True), ("worker", True)}
    assert (node["pool"], node["cell"]) == (fleet.pools[0].name, "cell-0")
    assert (told["workers"], told["workersReady"]) == (1, 1)
    assert [(row["adopted"], row["offered"]) for row in told["engines"]] == [(adopted.image, offered.image)]
    assert {row["type"]: row["status"] for row in told["conditions"]} == {
        "Ready": "True",
        "ImageOffered": "True",
        "OrphansHeld": "False",
    }
