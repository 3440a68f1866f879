"""Questions before and after something is applied: told as the operator would decide, and nothing is done for them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from roadstead.domain.model import VariantSpec
from roadstead.domain.snapshot import ResolutionKey, Resolved, Resolving
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode
from tests.fixtures.memory_ports import _Agents
from tests.fixtures.read_api import BIG, SECRET, SMALL, VARIANTS, ReadApi, running_read_api, two_nodes

pytestmark = pytest.mark.contract
SMALL_FILE = "file:///models/small.gguf"
BIG_SOURCE = VARIANTS[0].source
NOWHERE = f"https://models.example/none.gguf?{SECRET}"
EXPLAIN = "/v1/models/team/assistant/explain"
HEADER: dict[str, Any] = {
    "format": "GGUF", "architecture": "llama", "quantization": "Q4_0", "fileBytes": SMALL.bytes,
    "tensors": [{"type": "Q4_0", "elements": SMALL.facts.parameters, "bytes": SMALL.bytes}], "blockCount": 30,
    "contextLength": 8192, "embeddingLength": 576, "feedForwardLength": 1536, "headCount": 9,
    "headCountKv": [3] * 30, "keyLength": 64, "valueLength": 64, "vocabularySize": 49152,
    "vocabularyMerges": 48_900,
}  # fmt: skip


def spec(source: str = SMALL_FILE, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"variants": [{"name": "q4", "source": source}], "requirements": {"contextTokens": 2048}, **more}


def manifest(name: str = "new", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"namespace": "team", "name": name, "spec": spec(**more)}


async def test_a_model_is_explained_on_every_kind_of_node(api: ReadApi) -> None:
    told = await api.answer(EXPLAIN)

    model = told["model"]
    assert (model["wanted"], model["pending"], told["leading"]) == (2, 0, True)
    assert [(row["variant"], row["example"], row["verdict"]) for row in model["options"]] == [
        ("bf16", "node-a", "Chosen"),
        ("bf16", "node-b", "InsufficientRAM"),
        ("q4", "node-b", "Chosen"),
        ("q4", "node-a", "Outranked"),
    ]
    assert model["options"][1]["message"].startswith("needs 616.6 MiB, the node has 400.0 MiB")
    assert {"name": "weights", "value": 0.002} in model["options"][0]["terms"]
    first = model["choices"][0]
    assert (first["node"], first["variant"], first["worth"]) == ("node-a", "bf16", 2.002)
    assert len(first["passedOver"]) == 3


async def test_an_explanation_asks_for_files_that_nobody_has_looked_for_and_forgets_the_answer(api: ReadApi) -> None:
    for number in range(20):  # a plan asks some of them only
        api.fleet.nodes[f"node-c{number:02}"] = MemoryNode(budget=300 * MIB)
    api.fleet.nodes["node-z"] = MemoryNode(budget=350 * MIB, files={SMALL_FILE: SMALL})
    await api.turn()
    known = dict(api.fleet.resolutions.answers())

    rows = (await api.answer(EXPLAIN))["model"]["options"]

    assert [(row["example"], row["nodes"], row["verdict"]) for row in rows if row["variant"] == "q4"][2:] == [
        ("node-c00", 20, "SourceNotFound"),
        ("node-z", 1, "Fits"),
    ]
    assert not any(key.node == "node-z" for key in known)
    assert api.fleet.resolutions.answers() == known


async def test_a_model_that_there_is_not_cannot_be_explained(api: ReadApi) -> None:
    status, problem = await api.get("/v1/models/team/nobody/explain")

    assert (status, problem["code"], problem["message"]) == (
        404,
        "ModelNotFound",
        "There is no LocalModel team/nobody.",
    )


@pytest.mark.parametrize(
    "question",
    [manifest(), {"source": SMALL_FILE, "requirements": {"contextTokens": 2048}}, {"header": HEADER}],
    ids=("manifest", "source", "header"),
)
async def test_it_is_told_where_a_model_would_fit_and_nothing_is_done(question: dict[str, Any], api: ReadApi) -> None:
    before = list(api.fleet.writes)

    told = await api.told("/v1/fit", question)

    (chosen, refused) = told["model"]["options"]
    assert told["placed"]
    assert (chosen["example"], chosen["verdict"], chosen["replicas"]) == ("node-a", "Chosen", 1)
    assert (refused["example"], refused["verdict"]) == ("node-b", "InsufficientRAM")
    assert chosen["neededBytes"] > SMALL.bytes
    assert api.fleet.writes == before


async def test_a_header_costs_what_the_file_costs_once_it_is_there(api: ReadApi) -> None:
    requirements = {"contextTokens": 8192, "concurrency": 2, "cacheType": "Q8_0"}

    by_header = await api.told("/v1/fit", {"header": HEADER, "requirements": requirements})
    by_source = await api.told("/v1/fit", {"source": SMALL_FILE, "requirements": requirements})

    needed = [told["model"]["options"][0]["neededBytes"] for told in (by_header, by_source)]
    assert needed[0] == needed[1]


async def test_what_fits_nowhere_is_told_with_the_bytes_that_are_missing(api: ReadApi) -> None:
    told = await api.told("/v1/fit", manifest(requirements={"contextTokens": 1_000_000}))

    assert (told["placed"], told["model"]["pending"]) == (False, 1)
    assert all("bytes short" in row["message"] for row in told["model"]["options"])


async def test_a_manifest_of_a_model_that_there_is_counts_its_own_room_as_free(api: ReadApi) -> None:
    told = await api.told("/v1/fit", manifest("assistant", replicas=2))

    assert {row["freeBytes"] for row in told["model"]["options"]} == {2000 * MIB, 400 * MIB}


async def test_a_source_that_agents_do_not_have_is_refused_with_their_reason_and_without_its_secret(
    api: ReadApi,
) -> None:
    status, problem = await api.post("/v1/fit", {"source": NOWHERE})

    assert (status, problem["code"]) == (424, "SourceNotFound")
    assert problem["message"].startswith("file: https://models.example/none.gguf is not there on node-")
    assert problem["remedy"].endswith(".")
    assert SECRET not in json.dumps(problem)


async def test_of_several_variants_the_one_that_nobody_has_is_told_beside_the_others(api: ReadApi) -> None:
    question = manifest()
    question["spec"]["variants"].append({"name": "gone", "source": NOWHERE})

    told = await api.told("/v1/fit", question)

    assert [(row["name"], row["verdict"]) for row in told["model"]["variants"]] == [
        ("q4", ""),
        ("gone", "SourceNotFound"),
    ]
    assert told["placed"]
    assert SECRET not in json.dumps(told)


async def test_an_agent_that_does_not_answer_is_waited_for_only_so_long(api: ReadApi) -> None:
    api.fleet.agents_may_answer = asyncio.Event()

    status, problem = await api.post("/v1/fit", {"source": NOWHERE})

    assert (status, problem["code"]) == (424, "AgentUnavailable")
    assert "did not say in 1 s what is behind https://models.example/none.gguf." in problem["message"]


async def test_a_source_that_is_still_being_read_says_how_far_it_is(
    api: ReadApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reading(_agents: _Agents, _key: ResolutionKey) -> Resolving:
        return Resolving(bytes_total=100 * MIB, bytes_done=30 * MIB)

    monkeypatch.setattr(_Agents, "resolve", reading)

    status, problem = await api.post("/v1/fit", {"source": NOWHERE})

    assert (status, problem["code"]) == (424, "Resolving")
    assert problem["message"] == "file: reading its source, 30 % of 100.0 MiB."
    assert problem["remedy"] == "Ask again in a while: the agent goes on reading."


async def test_a_source_that_is_read_in_time_is_waited_for(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Resolving | Resolved] = [Resolving(), Resolved(artifact=SMALL)]

    async def reading(_agents: _Agents, _key: ResolutionKey) -> Resolving | Resolved:
        return said.pop(0) if len(said) > 1 else said[0]

    monkeypatch.setattr(_Agents, "resolve", reading)

    assert (await api.told("/v1/fit", {"source": NOWHERE}))["placed"]


async def test_no_agent_that_answers_is_said_as_well(api: ReadApi) -> None:
    for node in api.fleet.nodes.values():
        node.agent_answers = False
    api.leading.append(False)

    status, problem = await api.post("/v1/fit", {"source": NOWHERE})

    assert (status, problem["code"]) == (424, "AgentUnavailable")
    assert SECRET not in json.dumps(problem)


async def test_what_would_follow_from_an_applied_model_is_told_with_its_places(api: ReadApi) -> None:
    before = list(api.fleet.writes)

    told = await api.told("/v1/what-if", {"apply": [manifest()]})

    (model,) = told["models"]
    assert (model["namespace"], model["name"], model["stops"]) == ("team", "new", [])
    assert model["starts"] == [{"node": "node-a", "variant": "q4", "replicas": 1}]
    assert told["unchanged"] == 1
    assert api.fleet.writes == before


async def test_nodes_may_go_and_models_come_in_one_thought(api: ReadApi) -> None:
    told = await api.told("/v1/what-if", {"drain": ["node-a"], "add": ["node-b:1"], "apply": [manifest()]})

    places = {model["name"]: [(each["node"], each["variant"]) for each in model["starts"]] for model in told["models"]}
    assert sorted(node for starts in places.values() for node, _ in starts) == ["node-b-like-1"]
    assert sum(model["pendingThen"] for model in told["models"]) == 1


async def test_the_same_question_has_the_same_answer_on_a_standby(api: ReadApi) -> None:
    await api.turn()
    question = {"apply": [manifest(source=BIG_SOURCE), manifest("assistant", replicas=3)]}
    led = await api.told("/v1/what-if", question)
    again = await api.told("/v1/what-if", question)
    api.leading.append(False)
    stood_by = await api.told("/v1/what-if", question)

    assert led["models"] == again["models"] == stood_by["models"]


async def test_a_source_that_cannot_be_resolved_leaves_the_model_without_a_place_and_says_why(api: ReadApi) -> None:
    told = await api.told("/v1/what-if", {"apply": [manifest(source=NOWHERE)]})

    (model,) = told["models"]
    assert (model["starts"], model["pendingThen"]) == ([], 1)
    assert model["why"].startswith("q4: https://models.example/none.gguf is not there on node-")
    assert SECRET not in json.dumps(told)


@pytest.mark.parametrize(
    ("path", "body", "about"),
    [
        ("/v1/fit", manifest(replicas="many"), "team/new spec.replicas"),
        ("/v1/fit", {"source": "ftp://x/y.gguf"}, "spec.variants[0].source"),
        ("/v1/fit", {"source": SMALL_FILE, "requirements": {"contextToken": 1}}, "spec.requirements.contextToken"),
        ("/v1/what-if", {"apply": [manifest(), manifest("other", replicas=-1)]}, "team/other spec.replicas"),
    ],
)
async def test_a_spec_that_cannot_be_acted_on_is_refused_as_the_operator_would(
    path: str, body: object, about: str, api: ReadApi
) -> None:
    status, problem = await api.post(path, body)

    assert (status, problem["code"], problem["object"]) == (400, "InvalidSpec", about)
    assert problem["message"].startswith(f"{about.rpartition(' ')[2]}: ")
    assert problem["message"].endswith(".")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/fit", {}),
        ("/v1/fit", {"source": SMALL_FILE, "sources": []}),
        ("/v1/fit", {"header": {**HEADER, "blockCount": 10**9}}),
        ("/v1/fit", [f"https://x/y?{SECRET}"]),
        ("/v1/what-if", {"apply": [{"name": "new"}]}),
        ("/v1/what-if", {"drain": ["Node A"]}),
    ],
)
async def test_a_body_that_cannot_be_understood_is_refused_without_quoting_it(
    path: str, body: object, api: ReadApi
) -> None:
    status, problem = await api.post(path, body)

    assert (status, problem["code"]) == (400, "InvalidRequest")
    assert SECRET not in json.dumps(problem)


async def test_a_node_that_there_is_not_cannot_be_drained_beside_a_model_either(api: ReadApi) -> None:
    status, problem = await api.post("/v1/what-if", {"drain": ["elsewhere"], "apply": [manifest()]})

    assert (status, problem["code"], problem["message"]) == (404, "NodeNotFound", "There is no node elsewhere.")


async def test_a_planner_that_takes_too_long_is_said(api: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    async def too_slow(*_: object) -> None:
        raise TimeoutError

    for method in ("what_if", "explain", "fit"):
        monkeypatch.setattr(f"tests.fixtures.read_api.HereAndNow.{method}", too_slow)

    for answer in (api.get(EXPLAIN), api.get("/v1/what-if"), api.post("/v1/fit", manifest())):
        status, problem = await answer
        assert (status, problem["code"]) == (503, "PlanUnavailable")


async def test_a_fleet_without_nodes_has_no_place_and_no_option(tmp_path: Path) -> None:
    fleet = MemoryFleet(nodes={})
    async with running_read_api(tmp_path, fleet=fleet) as api:
        told = await api.told("/v1/fit", {"header": HEADER})

    assert (told["placed"], told["model"]["options"]) == (False, [])


async def test_a_model_s_own_measured_speed_and_memory_are_told(tmp_path: Path) -> None:
    fleet = two_nodes()
    fleet.nodes["node-a"].reads = 10.0 * BIG.bytes
    fleet.apply("assistant", VariantSpec(name="bf16", source=BIG_SOURCE))
    await fleet.settle()
    async with running_read_api(tmp_path, fleet=fleet) as api:
        rows = (await api.answer(EXPLAIN))["model"]["options"]

    assert [(row["tokensPerSecond"], row["speedFrom"]) for row in rows] == [(10.0, "Measured"), (None, "")]
