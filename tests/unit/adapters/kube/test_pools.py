"""WorkerPools into values, and what became of them into their status."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from roadstead.adapters.kube import pools
from roadstead.adapters.kube.store import Unreadable
from roadstead.adapters.kube.workloads import ServiceAccounts, Workloads
from roadstead.domain.model import ConditionStatus
from roadstead.domain.plan import ConditionReport, EngineReport, PoolReport
from roadstead.domain.reasons import Reason
from roadstead.domain.snapshot import EngineBuild, Pool
from roadstead.domain.workload import Devices, Toleration, WorkerTemplate

DIGEST = "sha256:" + "a" * 64
IMAGE = f"registry.example/roadstead/worker-cpu@{DIGEST}"
MIB = 1024 * 1024
WORKERS = {"cell": "cell-0", "store": {"size": "50Gi"}, "resources": {"cpu": "2500m", "memory": "8Gi"}}


def a_pool(spec: object, *, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    metadata = {"name": "cpu", "uid": "u1", "generation": 3, "annotations": annotations or {}}
    return {"metadata": metadata, "spec": spec}


def test_a_pool_without_workers_is_its_selector_and_engines() -> None:
    obj = a_pool({"nodeSelector": {"pool": "cpu"}, "engines": [{"engine": "LlamaCpp", "image": "xllamacpp==1"}]})

    assert pools.pool(obj).pool == Pool(
        name="cpu",
        node_selector=(("pool", "cpu"),),
        engines=(EngineBuild(engine="LlamaCpp", image="xllamacpp==1"),),
        uid="u1",
        generation=3,
    )


def engines(**words: object) -> dict[str, Any]:
    return a_pool({"engines": [{"engine": "LlamaCpp", "image": IMAGE, **words}]})


def test_what_a_build_can_do_is_read_as_numbers_and_names() -> None:
    (build,) = pools.pool(engines(backends=["CUDA", "CPU"], version="b11549", computeCapability="12.1")).pool.engines

    assert build.abilities == (frozenset({"CPU", "CUDA"}), "b11549", (12, 1))


def test_a_build_of_which_nothing_is_said_computes_on_processors_alone() -> None:
    (build,) = pools.pool(engines()).pool.engines

    assert build.abilities == (frozenset({"CPU"}), "", (0, 0))


def test_more_that_is_said_of_a_build_wakes_the_loop() -> None:
    assert pools.relevant_of_pool(pools.pool(engines())) != pools.relevant_of_pool(pools.pool(engines(version="b1")))


# --- the record of what was adopted ---

WORKLOADS = Workloads(
    release="ai",
    image="roadstead/roadstead@sha256:0",
    tokens_secret="ai-tokens",
    service_accounts=ServiceAccounts(agent="ai-agent", worker="ai-worker"),
    cells={"cell-0": "ai-head:6379"},
)
BUILDS = (
    EngineBuild(engine="LlamaCpp", image=IMAGE),
    EngineBuild(
        engine="VLLM", image=IMAGE, backends=frozenset({"CUDA", "CPU"}), version="0.33.0", capability=(7, 5)
    ),
)  # fmt: skip


def recorded() -> dict[str, Any]:
    return pools.adoption("cpu", BUILDS, WORKLOADS, namespace="fleet", pool_uid="u1")


def test_what_was_adopted_is_read_back_with_what_it_can_do() -> None:
    read = pools.adopted(recorded())

    assert read.engines == BUILDS
    assert [build.abilities for build in read.engines] == [build.abilities for build in BUILDS]


@pytest.mark.parametrize("text", [None, "", "{", '[{"engine": "VLLM", "image": "x", "backends": ["Photonic"]}]'])
def test_an_adoption_stands_although_what_the_image_can_do_cannot_be_read(text: str | None) -> None:
    obj = recorded()
    obj["metadata"]["annotations"] = {} if text is None else {"roadstead.dev/engines": text}

    read = pools.adopted(obj)

    assert read.engines == BUILDS
    assert [build.abilities for build in read.engines] == [BUILDS[0].abilities] * 2


def test_what_was_said_of_another_image_is_not_said_of_the_adopted_one() -> None:
    obj = recorded()
    obj["data"]["VLLM"] = IMAGE.replace("a" * 64, "b" * 64)

    (_, vllm) = pools.adopted(obj).engines

    assert vllm.abilities == BUILDS[0].abilities


def test_workers_are_read_in_whole_numbers_with_defaults_filled_in() -> None:
    workers = WORKERS | {
        "devices": "Exclusive",
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
    }

    read = pools.pool(a_pool({"engines": [{"engine": "LlamaCpp", "image": IMAGE}], "workers": workers})).pool.workers

    assert read == WorkerTemplate(
        cell="cell-0",
        devices=Devices.EXCLUSIVE,
        storage_class=None,
        store_bytes=50 * 1024 * MIB,
        cpu_millis=2500,
        memory_bytes=8192 * MIB,
        request_cpu_millis=100,
        request_memory_bytes=1024 * MIB,
        tolerations=(Toleration(key="gpu", operator="Exists", effect="NoExecute", seconds=5),),
        drain_seconds=600,
    )


@pytest.mark.parametrize("written", [DIGEST, f" {DIGEST}\n", IMAGE])
def test_the_image_to_adopt_is_named_by_its_digest(written: str) -> None:
    obj = a_pool({"engines": [{"engine": "LlamaCpp", "image": IMAGE}]}, annotations={"roadstead.dev/adopt": written})

    assert pools.pool(obj).pool.adopt == DIGEST


def test_a_field_of_a_later_version_does_not_make_the_pool_vanish() -> None:
    spec = {"engines": [{"engine": "LlamaCpp", "image": IMAGE}], "workers": WORKERS | {"later": 1}, "later": {}}

    assert pools.pool(a_pool(spec)).pool.workers is not None


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({}, r"spec\.engines: is required"),
        (
            {"engines": [{"engine": "LlamaCpp", "image": IMAGE}], "workers": WORKERS | {"requests": {"cpu": "3"}}},
            r"spec\.workers: requests must not exceed resources",
        ),
        (
            {"engines": [{"engine": "LlamaCpp", "image": "worker:1"}], "workers": WORKERS},
            r"must be images by digest",
        ),
    ],
)
def test_a_pool_that_cannot_be_read_says_where(spec: object, sentence: str) -> None:
    with pytest.raises(Unreadable, match=sentence):
        pools.pool(a_pool(spec))


def test_the_status_counts_and_names_what_waits_to_be_adopted() -> None:
    pool = pools.pool(a_pool({"engines": [{"engine": "LlamaCpp", "image": IMAGE}], "workers": WORKERS})).pool
    report = PoolReport(
        pool=pool,
        nodes=2,
        workers=2,
        ready=1,
        engines=(
            EngineReport(engine="LlamaCpp", adopted="old", offered=IMAGE),
            EngineReport(engine="Vllm", adopted="same", offered="same"),
        ),
        conditions=(
            ConditionReport(
                type="Ready", status=ConditionStatus.FALSE, reason=Reason.IMAGE_OFFERED, message="one is not"
            ),
        ),
    )

    status = pools.status(report, now=datetime(2026, 11, 1, 10, 0, 0, 7, tzinfo=UTC))

    assert status["observedGeneration"] == 3
    assert status["workers"] == {"wanted": 2, "ready": 1}
    assert status["printed"] == {"ready": "1/2", "offered": "1"}
    assert status["engines"][0] == {"engine": "LlamaCpp", "adopted": "old", "offered": IMAGE}
    assert status["conditions"][0]["lastTransitionTime"] == "2026-11-01T10:00:00Z"


def test_our_own_status_never_wakes_the_loop_and_an_annotation_does() -> None:
    spec = {"engines": [{"engine": "LlamaCpp", "image": IMAGE}]}
    plain = pools.pool(a_pool(spec))
    told = pools.pool(a_pool(spec) | {"status": {"nodes": 3, "conditions": []}})
    annotated = pools.pool(a_pool(spec, annotations={"roadstead.dev/adopt": DIGEST}))

    assert pools.relevant_of_pool(told) == pools.relevant_of_pool(plain)
    assert pools.relevant_of_pool(annotated) != pools.relevant_of_pool(plain)
