"""What is published: nothing that only looks new."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from roadstead.adapters.kube import parse, render
from roadstead.domain.model import Condition, ConditionStatus, Model, ModelKey, ModelSpec, VariantSpec
from roadstead.domain.plan import ConditionReport, ModelReport, SlotReport
from roadstead.domain.reasons import Reason
from roadstead.domain.slot import route_prefix
from roadstead.domain.snapshot import Address, Route
from roadstead_gateway.contract import RouteSpec

NOW = datetime(2026, 11, 24, 12, 0, 0, 999, tzinfo=UTC)
BEFORE = NOW.replace(microsecond=0) - timedelta(days=1)

MODEL = Model(
    key=ModelKey("team-a", "assistant"),
    uid="u1",
    resource_version="7",
    generation=3,
    created=BEFORE,
    spec=ModelSpec(served_name="chat", variants=(VariantSpec(name="q4", source="file:///a"),), replicas=2),
)
SLOT = SlotReport(
    name="s",
    node="node-a",
    pool="cpu",
    releases=(1, 2),
    variant="q4",
    engine="LlamaCpp",
    replicas=2,
    ready=2,
    weight=2,
    memory_estimated=10 * 2**30,
    memory_measured=0,
    state=Reason.SERVING,
    message="",
)
READY = ConditionReport(type="Ready", status=ConditionStatus.TRUE, reason=Reason.SERVING, message="answers")
REPORT = ModelReport(model=MODEL, release=None, previous=None, replicas=2, ready=2, slots=(SLOT,), conditions=(READY,))


def rendered(report: ModelReport, published: dict[str, Any] | None = None) -> dict[str, Any]:
    return render.status(report, published=published or {}, now=NOW, url="http://gateway/v1")


def told_before(status: ConditionStatus) -> Model:
    before = Condition(
        type="Ready", status=status, reason="Old", message="", observed_generation=2, last_transition=BEFORE
    )
    return replace(MODEL, conditions=(before,))


def test_a_transition_time_is_now_when_the_status_flips() -> None:
    (condition,) = rendered(replace(REPORT, model=told_before(ConditionStatus.FALSE)))["conditions"]

    assert condition["lastTransitionTime"] == "2026-11-24T12:00:00Z"


def test_a_transition_time_stays_when_only_reason_and_message_change() -> None:
    (condition,) = rendered(replace(REPORT, model=told_before(ConditionStatus.TRUE)))["conditions"]

    assert condition["lastTransitionTime"] == "2026-11-23T12:00:00Z"
    assert (condition["reason"], condition["observedGeneration"]) == ("Serving", 3)


def test_what_is_published_again_is_the_same() -> None:
    published = rendered(REPORT)
    again = render.status(
        replace(REPORT, model=told_before(ConditionStatus.TRUE)),
        published=published,
        now=NOW + timedelta(hours=1),
        url="http://gateway/v1",
    )
    published["conditions"][0]["lastTransitionTime"] = "2026-11-23T12:00:00Z"

    assert render.same_status(again, published)


@pytest.mark.parametrize(("measured", "shown"), [(1001 * 2**20, "1000Mi"), (1100 * 2**20, "1.07Gi"), (0, None)])
def test_measured_memory_follows_only_what_a_person_would_notice(measured: int, shown: str | None) -> None:
    published = {"slots": [{"name": "s", "memory": {"estimated": "10Gi", "measured": "1000Mi"}}]}
    report = replace(REPORT, slots=(replace(SLOT, memory_measured=measured),))

    assert rendered(report, published)["slots"][0]["memory"].get("measured") == shown


def test_status_speaks_of_the_generation_that_was_planned() -> None:
    status = rendered(REPORT)

    assert status["observedGeneration"] == 3
    assert status["selector"] == "roadstead.dev/model=assistant"
    assert status["servedName"] == "chat"
    assert "release" not in status


def test_at_most_64_slots_are_listed_and_all_are_counted() -> None:
    slots = tuple(replace(SLOT, name=f"s{number}", ready=1) for number in range(70))
    status = rendered(replace(REPORT, slots=slots, ready=70, replicas=70))

    assert len(status["slots"]) == 64
    assert status["replicas"] == 70
    assert status["printed"]["variants"] == "q4 x70"


PRINTED: list[tuple[str, tuple[ConditionReport, ...], str]] = [
    ("nothing to say", (READY,), "answers"),
    (
        "degraded although it answers",
        (READY, ConditionReport(type="Degraded", status=ConditionStatus.TRUE, reason=Reason.SERVING, message="1 of 2")),
        "1 of 2",
    ),
    (
        "a spec that cannot be read before all else",
        (
            ConditionReport(type="Degraded", status=ConditionStatus.TRUE, reason=Reason.SERVING, message="1 of 2"),
            ConditionReport(
                type="Accepted", status=ConditionStatus.FALSE, reason=Reason.INVALID_SPEC, message="spec.variants: …"
            ),
        ),
        "spec.variants: …",
    ),
]


@pytest.mark.parametrize(("conditions", "message"), [row[1:] for row in PRINTED], ids=[row[0] for row in PRINTED])
def test_the_message_column_tells_what_to_know_first(conditions: tuple[ConditionReport, ...], message: str) -> None:
    assert rendered(replace(REPORT, conditions=conditions))["printed"]["message"] == message


@pytest.mark.parametrize(
    ("number_of_bytes", "text"),
    [(0, "0"), (999, "999"), (1000, "0.98Ki"), (145 * 2**20, "145Mi"), (10593984512, "9.87Gi"), (10 * 2**30, "10Gi")],
)
def test_quantities_have_three_digits_and_binary_units(number_of_bytes: int, text: str) -> None:
    assert render.quantity(number_of_bytes) == text
    assert render.in_bytes(text) == pytest.approx(number_of_bytes, rel=0.01)


ROUTE = Route(
    name="team-a.assistant",
    model=MODEL.key,
    names=("chat",),
    task="Chat",
    slots=(
        Address(
            slot="s",
            release=2,
            variant="q4",
            node="node-a",
            addresses=("10.0.0.1:30000",),
            weight=1,
            capacity=4,
            draining=True,
        ),
    ),
)


def test_a_route_is_read_back_as_it_was_written() -> None:
    obj = render.model_route(ROUTE, namespace="roadstead", resource_version="9")

    assert parse.route(obj) == replace(ROUTE, resource_version="9")


def test_a_gateway_reads_what_is_written() -> None:
    obj = render.model_route(ROUTE, namespace="roadstead", resource_version=None)

    spec = RouteSpec.model_validate(obj["spec"])
    assert spec.model_dump(mode="json", by_alias=True) == obj["spec"]
    assert spec.slots[0].route_prefix == route_prefix("s")
