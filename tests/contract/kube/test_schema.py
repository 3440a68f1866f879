"""What a person meets at a real API server: our kinds are accepted, explained, and refuse with words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.kube.conftest import local_model
from tests.fixtures.control_plane import RunningControlPlane

pytestmark = pytest.mark.contract

DIGEST = "sha256:" + "0" * 64


def applied(plane: RunningControlPlane, obj: dict[str, Any]) -> str:
    return plane.kubectl("apply", "-f", "-", stdin=json.dumps(obj), check=False)


def test_the_manual_of_a_variant_is_what_the_models_say(plane: RunningControlPlane) -> None:
    manual = plane.kubectl("explain", "localmodel.spec.variants")

    assert "The ladder: the model in one precision or in several." in manual
    assert "What the file must hash to, if you want to be sure." in manual
    assert "source\t<string> -required-" in manual


@pytest.mark.parametrize("kind", ["localmodel", "workerpool", "modelroute"])
def test_each_kind_is_explained(kind: str, plane: RunningControlPlane) -> None:
    manual = plane.kubectl("explain", kind)

    assert "DESCRIPTION:" in manual
    assert "<empty>" not in manual


def test_a_full_model_is_accepted_and_defaults_are_filled_in(plane: RunningControlPlane, namespace: str) -> None:
    full = local_model(
        namespace,
        servedName="qwen2.5:7b",
        aliases=["gpt-4o-mini"],
        variants=[
            {"name": "q8", "source": "https://models.example/a b.gguf", "digest": DIGEST},
            {"name": "q4", "source": "file:///models/q4.gguf", "quality": 0.97},
            {"name": "bf16", "source": "http://models.lan/bf16.gguf", "quality": 1},
        ],
        requirements={"contextTokens": 8192},
        placement={"pools": ["gpu"], "nodeSelector": {"disktype": "nvme"}},
    )

    assert "created" in applied(plane, full)
    spec = json.loads(plane.kubectl("get", "lm", "assistant", "-n", namespace, "-o", "json"))["spec"]
    assert (spec["replicas"], spec["task"], spec["requirements"]["concurrency"]) == (1, "Chat", 1)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("no variant", {"variants": []}, "spec.variants: Invalid value"),
    ("no source", {"variants": [{"name": "a"}]}, "spec.variants[0].source: Required value"),
    ("an unknown field", {"replica": 2}, 'unknown field "spec.replica"'),
    (
        "two variants of one name",
        {"variants": [{"name": "a", "source": "file:///a"}, {"name": "a", "source": "file:///b"}]},
        "Duplicate value",
    ),
    (
        "a scheme that nobody can fetch yet",
        {"variants": [{"name": "a", "source": "hf://org/model"}]},
        "must begin with 'file:///' (a path on the node), 'https://' or 'http://'",
    ),
    ("a relative path", {"variants": [{"name": "a", "source": "file://models/a"}]}, "must begin with 'file:///'"),
    (
        "a password in a source",
        {"variants": [{"name": "a", "source": "https://user:word@host/a"}]},
        "must not hold a user or a password",
    ),
    (
        "a line break in a source",
        {"variants": [{"name": "a", "source": "file:///a\nb"}]},
        "must not contain control characters",
    ),
    (
        "a digest of another kind",
        {"variants": [{"name": "a", "source": "file:///a", "digest": "md5:0"}]},
        "must be 'sha256:' and 64 lower-case hexadecimal digits",
    ),
    (
        "a quality above that of the unquantized model",
        {"variants": [{"name": "a", "source": "file:///a", "quality": 1.01}]},
        "should be less than or equal to 1",
    ),
    ("a variant's name in capitals", {"variants": [{"name": "Q4", "source": "file:///a"}]}, "lower-case letters"),
    ("a served name with a slash", {"servedName": "team/model"}, "lower-case letters"),
    ("an alias with a space", {"aliases": ["gpt 4"]}, "lower-case letters"),
    ("an alias of 64 characters", {"aliases": ["a" * 64]}, "Too long"),
    ("the same alias twice", {"aliases": ["a", "a"]}, "Duplicate value"),
    ("a task that does not exist", {"task": "Embedding"}, 'supported values: "Chat", "Completion"'),
    ("a negative count", {"replicas": -1}, "should be greater than or equal to 0"),
    ("a count beyond reason", {"replicas": 10**9}, "should be less than or equal to 10000"),
    ("no concurrency", {"requirements": {"concurrency": 0}}, "should be greater than or equal to 1"),
    ("a label's value with a slash", {"placement": {"nodeSelector": {"a": "b/c"}}}, "must be a label's value"),
]


@pytest.mark.parametrize(("spec", "sentence"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_the_api_server_refuses(spec: dict[str, Any], sentence: str, plane: RunningControlPlane) -> None:
    said = applied(plane, local_model("default", "refused", **spec))

    assert sentence in said
    assert "created" not in said


def test_a_pool_needs_an_engine(plane: RunningControlPlane) -> None:
    empty = {
        "apiVersion": "roadstead.dev/v1alpha1",
        "kind": "WorkerPool",
        "metadata": {"name": "empty"},
        "spec": {"engines": []},
    }

    assert "spec.engines: Invalid value" in applied(plane, empty)


def test_kubectl_scale_changes_the_spec_and_its_generation(plane: RunningControlPlane, namespace: str) -> None:
    applied(plane, local_model(namespace))

    plane.kubectl("scale", "lm/assistant", "--replicas=3", "-n", namespace)

    model = json.loads(plane.kubectl("get", "lm", "assistant", "-n", namespace, "-o", "json"))
    assert model["spec"]["replicas"] == 3
    assert model["metadata"]["generation"] == 2


def test_the_categories_find_it(plane: RunningControlPlane, namespace: str) -> None:
    applied(plane, local_model(namespace))

    for category in ("all", "ai"):
        assert "localmodel.roadstead.dev/assistant" in plane.kubectl("get", category, "-n", namespace, "-o", "name")
