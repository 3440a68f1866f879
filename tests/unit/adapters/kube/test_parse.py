"""Objects become values; what cannot be acted on says where and why."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest

from roadstead.adapters.kube import parse
from roadstead.domain.model import Condition, ConditionStatus, FieldProblem, ModelSpec, Spread, Task, VariantSpec
from roadstead.domain.quality import ANNOTATION, to_text
from roadstead.domain.snapshot import Node, Taint
from tests.fixtures.quality_records import a_record

VARIANT = {"name": "q4", "source": "file:///models/q4.gguf"}


def local_model(spec: object, *, status: object = None, **metadata: object) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "assistant",
            "namespace": "team-a",
            "uid": "u1",
            "resourceVersion": "7",
            "generation": 3,
            "creationTimestamp": "2026-11-01T10:00:00Z",
            **metadata,
        },
        "spec": spec,
        **({"status": status} if status else {}),
    }


def test_defaults_are_filled_in_and_the_served_name_is_the_objects() -> None:
    spec, problems = parse.model_spec({"variants": [VARIANT]}, name="assistant")

    assert problems == ()
    assert spec == ModelSpec(
        served_name="assistant", variants=(VariantSpec(name="q4", source="file:///models/q4.gguf"),)
    )


def test_every_field_finds_its_place() -> None:
    spec, problems = parse.model_spec(
        {
            "servedName": "chat",
            "aliases": ["gpt-4o-mini"],
            "task": "Completion",
            "variants": [{**VARIANT, "digest": "sha256:" + "a" * 64, "quality": 1}],
            "requirements": {"contextTokens": 8192, "concurrency": 4},
            "replicas": 0,
            "placement": {"pools": ["gpu"], "nodeSelector": {"b": "2", "a": "1"}, "spread": {"topologyKey": "rack"}},
            "keepReleases": 5,
        },
        name="assistant",
    )

    assert problems == ()
    assert spec is not None
    assert (spec.names, spec.task, spec.replicas) == (("chat", "gpt-4o-mini"), Task.COMPLETION, 0)
    assert spec.keep_releases == 5
    assert spec.variants[0].quality == 1.0
    assert (spec.requirements.context_tokens, spec.requirements.concurrency) == (8192, 4)
    assert spec.placement.node_selector == (("a", "1"), ("b", "2"))
    assert spec.placement.spread == Spread(topology_key="rack", max_skew=1)


PROBLEMS: list[tuple[str, object, str, str]] = [
    (
        "an unknown field",
        {"variants": [VARIANT], "autoscaling": {}},
        "spec.autoscaling",
        "is not a field of LocalModel",
    ),
    ("an unknown field of a variant", {"variants": [{**VARIANT, "files": []}]}, "spec.variants[0].files", "is not a"),
    ("the Python name of a field", {"variants": [VARIANT], "served_name": "a"}, "spec.served_name", "is not a field"),
    ("no variant", {"variants": []}, "spec.variants", "at least 1 item"),
    ("nothing at all", None, "spec", "should be an object"),
    ("no source", {"variants": [{"name": "a"}]}, "spec.variants[0].source", "is required"),
    (
        "a spread that allows no replica",
        {"variants": [VARIANT], "placement": {"spread": {"topologyKey": "rack", "maxSkew": 0}}},
        "spec.placement.spread.maxSkew",
        "greater than or equal to 1",
    ),
    (
        "a spread over nothing that is a label",
        {"variants": [VARIANT], "placement": {"spread": {"topologyKey": "a rack"}}},
        "spec.placement.spread.topologyKey",
        "must be a label's key",
    ),
    ("a number in quotes", {"variants": [VARIANT], "replicas": "2"}, "spec.replicas", "valid integer"),
    ("a name twice", {"variants": [VARIANT, VARIANT]}, "spec.variants", "each variant must have a name of its own"),
    (
        "a scheme of tomorrow",
        {"variants": [VARIANT, {"name": "b", "source": "hf://org/model"}]},
        "spec.variants[1].source",
        "must begin with 'file:///'",
    ),
    ("a line break", {"variants": [{**VARIANT, "source": "file:///a\nb"}]}, "spec.variants[0].source", "must "),
    ("a trailing line break", {"variants": [{**VARIANT, "name": "q4\n"}]}, "spec.variants[0].name", "lower-case"),
    ("a digest cut short", {"variants": [{**VARIANT, "digest": "sha256:0"}]}, "spec.variants[0].digest", "64"),
    ("a quality above 1", {"variants": [{**VARIANT, "quality": 2}]}, "spec.variants[0].quality", "less than or equal"),
    ("a capital", {"variants": [VARIANT], "aliases": ["ok", "GPT"]}, "spec.aliases[1]", "lower-case letters"),
    ("a homoglyph", {"variants": [VARIANT], "servedName": "\u0430bc"}, "spec.servedName", "lower-case letters"),
]


@pytest.mark.parametrize(("spec", "path", "message"), [row[1:] for row in PROBLEMS], ids=[row[0] for row in PROBLEMS])
def test_a_problem_names_its_field(spec: object, path: str, message: str) -> None:
    found, problems = parse.model_spec(spec, name="assistant")

    assert found is None
    assert [problem.path for problem in problems] == [path]
    assert message in problems[0].message


def test_all_problems_are_told_at_once() -> None:
    _, problems = parse.model_spec({"variants": [{"name": "a"}], "replicas": -1}, name="assistant")

    assert [problem.path for problem in problems] == ["spec.variants[0].source", "spec.replicas"]


def test_a_model_that_cannot_be_read_is_still_a_model() -> None:
    model = parse.local_model(local_model({"variants": []}), finalizer="f").model

    assert model.spec is None
    assert isinstance(model.problems[0], FieldProblem)
    assert (model.uid, model.generation, model.resource_version) == ("u1", 3, "7")


def test_deletion_finalizer_and_conditions_are_read() -> None:
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "answers",
        "observedGeneration": 2,
        "lastTransitionTime": "2026-11-02T10:00:00Z",
    }
    obj = local_model(
        {"variants": [VARIANT]},
        status={"conditions": [condition, {"type": "Odd"}]},
        finalizers=["other", "ours"],
        deletionTimestamp="2026-11-03T10:00:00Z",
    )

    watched = parse.local_model(obj, finalizer="ours")

    assert watched.finalizers == ("other", "ours")
    assert watched.model.finalized
    assert watched.model.deleted == datetime(2026, 11, 3, 10, tzinfo=UTC)
    assert watched.model.conditions == (
        Condition(
            type="Ready",
            status=ConditionStatus.TRUE,
            reason="Serving",
            message="answers",
            observed_generation=2,
            last_transition=datetime(2026, 11, 2, 10, tzinfo=UTC),
        ),
    )


def with_records(text: str | None, spec: object = None, *, other: str = "") -> parse.WatchedModel:
    annotations = {"other": other} | ({ANNOTATION: text} if text is not None else {})
    obj = local_model(spec or {"variants": [VARIANT]}, annotations=annotations)
    return parse.local_model(obj, finalizer="f")


def test_records_of_measured_quality_come_with_the_spec() -> None:
    record = a_record("sha256:" + "c" * 64, divergence=0.5)

    found = with_records(to_text([record])).model

    assert found.checked_spec.measured == (dataclasses.replace(record, quality=round(record.quality, 6)),)
    assert found.ignored == ()


def test_records_that_cannot_be_read_are_a_problem_of_theirs_and_none_of_the_spec() -> None:
    found = with_records('{"q4": {}}').model

    assert found.checked_spec.measured == ()
    assert found.problems == ()
    (ignored,) = found.ignored
    assert ignored.path == f"metadata.annotations[{ANNOTATION}]"
    assert ignored.message == "'q4' is no digest: write sha256: and 64 lower-case hex digits"


def test_records_beside_a_spec_that_cannot_be_acted_on_are_no_second_problem() -> None:
    found = with_records(to_text([a_record("sha256:" + "c" * 64, divergence=0.5)]), {"variants": []}).model

    assert found.spec is None
    assert found.ignored == ()


def test_a_changed_record_wakes_the_loop_and_another_annotation_does_not() -> None:
    one, other = (to_text([a_record("sha256:" + "c" * 64, divergence=nats)]) for nats in (0.5, 0.6))
    relevant = [
        parse.relevant_of_model(with_records(text, other="x" * number))
        for number, text in enumerate((None, one, one, other, "{", "[]"))
    ]

    assert relevant[1] == relevant[2]
    assert len({repr(each) for each in relevant}) == 5


def test_a_node_is_its_labels_taints_and_readiness() -> None:
    obj = {
        "metadata": {"name": "node-a", "labels": {"b": "2", "a": "1"}},
        "spec": {"unschedulable": True, "taints": [{"key": "gpu", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": "True"}]},
    }

    assert parse.node(obj) == Node(
        name="node-a",
        labels=(("a", "1"), ("b", "2")),
        ready=True,
        unschedulable=True,
        taints=(Taint(key="gpu", value="", effect="NoSchedule"),),
    )


def test_of_what_a_node_offers_only_extended_resources_are_read_so_that_heartbeats_change_nothing() -> None:
    def told(**also: object) -> Node:
        allocatable = {"cpu": "7910m", "memory": "31696348Ki", "pods": "29", "hugepages-1Gi": "0", **also}
        return parse.node({"metadata": {"name": "a"}, "status": {"allocatable": allocatable}})

    assert told(memory="31696000Ki") == told()
    devices = told(**{"nvidia.com/gpu": "4", "amd.com/gpu": "0", "example.com/odd": "a few"})
    assert devices.allocatable == (("amd.com/gpu", 0), ("nvidia.com/gpu", 4))


@pytest.mark.parametrize("status", ["False", "Unknown", None], ids=str)
def test_a_node_that_is_not_known_to_be_ready_is_not(status: str | None) -> None:
    conditions = [{"type": "Ready", "status": status}] if status else None

    assert not parse.node({"metadata": {"name": "a"}, "status": {"conditions": conditions}}).ready
