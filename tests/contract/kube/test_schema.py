"""What a person meets at a real API server: our kinds are accepted, explained, and refuse with words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roadstead.adapters.kube import pools
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
        placement={
            "pools": ["gpu"],
            "nodeSelector": {"disktype": "nvme"},
            "spread": {"topologyKey": "topology.kubernetes.io/zone"},
        },
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
    ("no skew", {"placement": {"spread": {"topologyKey": "a", "maxSkew": 0}}}, "should be greater than or equal to 1"),
    ("a label's key with a space", {"placement": {"spread": {"topologyKey": "a b"}}}, "must be a label's key"),
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


IMAGE = f"registry.example:5000/roadstead/worker-cpu@{DIGEST}"
WORKERS: dict[str, Any] = {
    "cell": "cell-0",
    "store": {"size": "50Gi"},
    "resources": {"cpu": "4", "memory": "8Gi"},
}


def a_pool(name: str = "refused", image: str = IMAGE, **workers: object) -> dict[str, Any]:
    return {
        "apiVersion": "roadstead.dev/v1alpha1",
        "kind": "WorkerPool",
        "metadata": {"name": name},
        "spec": {"engines": [{"engine": "LlamaCpp", "image": image}], "workers": {**WORKERS, **workers}},
    }


ACCEPTED_WORKERS: list[tuple[str, dict[str, Any]]] = [
    ("the least", {}),
    ("all that there is", {
        "devices": "Exclusive",
        "store": {"storageClassName": "local.csi.example", "size": "1.5Ti"},
        "requests": {"cpu": "4", "memory": "8Gi"},
        "tolerations": [
            {"operator": "Exists"},
            {"key": "example.com/gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute",
             "tolerationSeconds": 60},
        ],
        "drainSeconds": 0,
    }),
    ("decimal units", {"resources": {"cpu": "1500m", "memory": "16G"}}),
]  # fmt: skip


@pytest.mark.parametrize("workers", [row[1] for row in ACCEPTED_WORKERS], ids=[row[0] for row in ACCEPTED_WORKERS])
def test_workers_are_accepted_and_read_as_they_were_written(
    workers: dict[str, Any], plane: RunningControlPlane, namespace: str
) -> None:
    said = applied(plane, a_pool(namespace, **workers))
    stored = json.loads(plane.kubectl("get", "wp", namespace, "-o", "json"))
    plane.kubectl("delete", "wp", namespace)

    assert "created" in said
    assert stored["spec"]["workers"].items() >= workers.items()
    assert pools.pool(stored).pool.workers is not None


REFUSED_WORKERS: list[tuple[str, dict[str, Any], str]] = [
    ("no cell", {"cell": ""}, "spec.workers.cell: Invalid value"),
    ("no size", {"store": {}}, "spec.workers.store.size: Required value"),
    ("a store that holds nothing", {"store": {"size": "1Mi"}}, "must be an amount of disk, from 64Mi to 1024Ti"),
    ("a size without a unit's meaning", {"store": {"size": "50GiB"}}, "must be an amount of disk"),
    ("a negative size", {"store": {"size": "-50Gi"}}, "must be an amount of disk"),
    (
        "less than a core",
        {"resources": {"cpu": "500m", "memory": "8Gi"}},
        "must be a number of cores, from 1 to 1024",  # 1.34 names the type where later ones name the value
    ),
    (
        "memory of which Ray leaves nothing",
        {"resources": {"cpu": "4", "memory": "1Gi"}},
        "must be an amount of memory, from 1536Mi to 64Ti",
    ),
    ("bytes for gibibytes", {"resources": {"cpu": "4", "memory": "8"}}, "must be an amount of memory"),
    ("requests above the limits", {"requests": {"memory": "9Gi"}}, "requests must not exceed resources"),
    ("defaults above the limits", {"requests": {"cpu": "5"}}, "requests must not exceed resources"),
    ("devices of another kind", {"devices": "Some"}, 'supported values: "Shared", "Exclusive"'),
    ("an effect that does not exist", {"tolerations": [{"effect": "Never"}]}, "Unsupported value"),
    ("a toleration of any key's value", {"tolerations": [{"value": "x"}]}, "without a key, operator must be Exists"),
    (
        "a toleration of any value and of one",
        {"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]},
        "with operator Exists there must be no value",
    ),
    (
        "a toleration for a while of what is for ever",
        {"tolerations": [{"key": "a", "value": "x", "effect": "NoSchedule", "tolerationSeconds": 1}]},
        "tolerationSeconds needs effect NoExecute",
    ),
    ("a taint's key with a space", {"tolerations": [{"key": "a b", "operator": "Exists"}]}, "must be a label's key"),
    ("a grace period of years", {"drainSeconds": 10**9}, "should be less than or equal to 86400"),
    ("an unknown field", {"drain": 1}, 'unknown field "spec.workers.drain"'),
]


@pytest.mark.parametrize(
    ("workers", "sentence"), [row[1:] for row in REFUSED_WORKERS], ids=[row[0] for row in REFUSED_WORKERS]
)
def test_the_api_server_refuses_workers(workers: dict[str, Any], sentence: str, plane: RunningControlPlane) -> None:
    said = applied(plane, a_pool(**workers))

    assert sentence in said
    assert "created" not in said


def test_a_pool_with_workers_names_its_images_by_digest(plane: RunningControlPlane) -> None:
    said = applied(plane, a_pool(image="registry.example/roadstead/worker-cpu:1"))

    assert "engines of a pool with workers must be images by digest" in said


def described(**words: object) -> dict[str, Any]:
    pool = a_pool("described")
    pool["spec"]["engines"][0] |= words
    return pool


def test_what_an_engine_can_do_is_accepted_and_is_its_processor_unless_said(plane: RunningControlPlane) -> None:
    said = [applied(plane, described())]
    (plain,) = json.loads(plane.kubectl("get", "wp", "described", "-o", "json"))["spec"]["engines"]
    said += [applied(plane, described(backends=["CUDA", "CPU"], version="0.33.0", computeCapability="7.5"))]
    stored = json.loads(plane.kubectl("get", "wp", "described", "-o", "json"))
    plane.kubectl("delete", "wp", "described")

    assert plain["backends"] == ["CPU"]
    assert "created" in said[0]
    assert "configured" in said[1]
    assert pools.pool(stored).pool.engines[0].abilities == (frozenset({"CPU", "CUDA"}), "0.33.0", (7, 5))


REFUSED_ENGINES: list[tuple[str, dict[str, Any], str]] = [
    ("no backend", {"backends": []}, "spec.engines[0].backends: Invalid value"),
    ("a backend in small letters", {"backends": ["cuda"]}, 'supported values: "CPU", "CUDA"'),
    ("a backend twice", {"backends": ["CPU", "CPU"]}, "Duplicate value"),
    ("a version of two lines", {"version": "1\n2"}, "must not contain control characters"),
    ("a whole number", {"computeCapability": "8"}, "must be a compute capability, as 8.6"),
    ("a compiler's word", {"computeCapability": "sm_86"}, "spec.engines[0].computeCapability"),
]


@pytest.mark.parametrize(
    ("words", "sentence"), [row[1:] for row in REFUSED_ENGINES], ids=[row[0] for row in REFUSED_ENGINES]
)
def test_the_api_server_refuses_what_is_said_of_an_engine(
    words: dict[str, Any], sentence: str, plane: RunningControlPlane
) -> None:
    said = applied(plane, described(**words))

    assert sentence in said
    assert "created" not in said


def test_the_cell_of_a_pool_cannot_be_changed(plane: RunningControlPlane) -> None:
    applied(plane, a_pool(name="settled"))

    said = applied(plane, a_pool(name="settled", cell="cell-1"))

    assert "spec.workers.cell: Invalid value" in said
    assert "make another pool for the other cell" in said
    plane.kubectl("delete", "workerpool", "settled")


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
