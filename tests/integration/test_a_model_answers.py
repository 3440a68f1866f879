"""The main job: a LocalModel is applied, planned, served, recorded, and answers."""

from __future__ import annotations

import json

import aiohttp
import pytest
from openai import AsyncOpenAI

from tests.fixtures.embedded_fleet import NAMESPACE, EmbeddedFleet

pytestmark = [pytest.mark.integration, pytest.mark.engines]


async def test_an_applied_model_answers_and_the_headers_say_what_served_it(fleet: EmbeddedFleet, anchor: str) -> None:
    model = await fleet.until_model(anchor, "Ready")
    reply = await fleet.answers(anchor)
    assert reply.text.strip()
    assert reply.headers["x-roadstead-release"] == str(model.status["release"]["number"])
    assert reply.headers["x-roadstead-variant"] == "q4"
    assert reply.headers["x-roadstead-node"] == model.slots[0]["node"]
    assert (await fleet.answers(f"{NAMESPACE}/{anchor}")).text == reply.text


async def test_a_model_is_on_record_in_the_ledger_and_in_the_cluster(fleet: EmbeddedFleet, anchor: str) -> None:
    model = await fleet.until_model(anchor, "Ready")
    (row,) = fleet.ledger(
        "SELECT m.namespace, i.uid, r.number, r.digest, c.context_tokens, a.quantization, p.slot, p.node, p.replicas"
        " FROM models m JOIN model_incarnations i ON i.model_id = m.id JOIN releases r ON r.model_id = m.id"
        " JOIN release_contents rc ON rc.model_id = m.id AND rc.number = r.number"
        " JOIN contents c ON c.hash = rc.content JOIN artifacts a ON a.digest = c.artifact"
        " JOIN placements p ON p.model_id = m.id AND p.content = c.hash"
        " WHERE m.name = :name AND i.ended IS NULL AND p.ended IS NULL",
        name=anchor,
    )
    slot = model.slots[0]
    release = model.status["release"]
    uid = model.body["metadata"]["uid"]
    assert tuple(row) == (
        NAMESPACE, uid, release["number"], release["digest"], 2048, "Q4_1", slot["name"], slot["node"], 1
    )  # fmt: skip
    revision = json.loads(fleet.kubectl("get", "controllerrevision", f"{anchor}-r1", "--output=json"))
    assert revision["metadata"]["ownerReferences"][0]["uid"] == uid
    route = json.loads(
        fleet.kubectl("get", "modelroute", f"{NAMESPACE}.{anchor}", "--namespace=roadstead", "--output=json")
    )
    assert [(each["name"], each["state"]) for each in route["spec"]["slots"]] == [(slot["name"], "Active")]


async def test_the_official_client_streams_to_a_reason_and_is_told_the_usage(fleet: EmbeddedFleet, anchor: str) -> None:
    await fleet.answers(anchor)
    async with AsyncOpenAI(base_url=f"{fleet.fleet.gateway_url}/v1", api_key=fleet.fleet.api_key) as client:
        assert anchor in [model.id async for model in client.models.list()]
        stream = await client.chat.completions.create(
            model=anchor,
            messages=[{"role": "user", "content": "Count to ten."}],
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert text.strip()
    assert reasons[-1] in {"stop", "length"}
    assert not any(reasons[:-1])
    assert chunks[-1].usage is not None
    assert 0 < chunks[-1].usage.completion_tokens <= 12


async def test_a_stream_on_the_wire_ends_with_done(fleet: EmbeddedFleet, anchor: str) -> None:
    await fleet.answers(anchor)
    body = {"model": anchor, "messages": [{"role": "user", "content": "Hi."}], "max_tokens": 4, "stream": True}
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {fleet.fleet.api_key}"}) as session,
        session.post(f"{fleet.fleet.gateway_url}/v1/chat/completions", json=body) as answer,
    ):
        events = [line for line in (await answer.text()).split("\n\n") if line]
    assert events[-1] == "data: [DONE]"
    assert "usage" not in json.loads(events[-2].removeprefix("data: "))
