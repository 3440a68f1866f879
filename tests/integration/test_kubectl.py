"""What a person does with kubectl, and that it says and does so."""

from __future__ import annotations

import pytest

from tests.fixtures.embedded_fleet import EmbeddedFleet
from tests.fixtures.patience import found

pytestmark = [pytest.mark.integration, pytest.mark.engines]


async def test_two_replicas_serve_on_both_nodes_scale_and_leave_nothing(fleet: EmbeddedFleet, anchor: str) -> None:
    fleet.apply("pair", {"q4": fleet.weights.q4}, requirements={"contextTokens": 1024}, replicas=2)
    fleet.kubectl("wait", "--for=condition=Ready", "lm/pair", "--timeout=80s")
    model = await fleet.until_model("pair", "Ready")
    assert sorted((slot["node"], slot["ready"]) for slot in model.slots) == [("node-a", 1), ("node-b", 1)]
    heading, row = fleet.kubectl("get", "lm", "pair", "-o", "wide").splitlines()
    assert heading.split() == ["NAME", "MODEL", "RELEASE", "VARIANTS", "READY", "STATUS", "AGE", "NODES", "MESSAGE"]
    assert row.split()[:7] == ["pair", "pair", "1", "q4", "x2", "2/2", "Ready"]
    assert "node-a" in row
    assert "node-b" in row
    assert len(fleet.engines("pair")) == 2

    fleet.kubectl("scale", "lm/pair", "--replicas=1")
    await _settles_at(fleet, "pair", replicas=1)
    assert (await fleet.answers("pair")).text

    await fleet.delete("pair")
    assert (await fleet.ask("pair")).status == 404
    assert fleet.ledger(
        "SELECT 1 FROM model_incarnations i JOIN models m ON m.id = i.model_id WHERE m.name = 'pair'"
    ), "what was served stays on record"
    assert (await fleet.answers(anchor)).text


async def test_kubectl_explains_the_fields_in_words(fleet: EmbeddedFleet) -> None:
    said = fleet.kubectl("explain", "localmodel.spec.variants")
    for word in ("FIELD: variants", "name\t<string> -required-", "source\t<string> -required-", "digest", "quality"):
        assert word in said
    assert "ladder" in said


async def _settles_at(fleet: EmbeddedFleet, name: str, *, replicas: int) -> None:
    async def look() -> bool | None:
        model = fleet.model(name)
        settled = model is not None and model.is_true("Ready") and model.status["readyReplicas"] == replicas
        return True if settled and len(fleet.engines(name)) == replicas else None

    await found(look, f"{replicas} replicas and as many engines of {name}", seconds=40)
