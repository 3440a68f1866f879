"""What builds of engines can do decides which contents there are and where they run, and nothing that runs already."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roadstead.domain.model import VariantSpec
from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Artifact, Content
from roadstead.domain.snapshot import EngineBuild, Pool
from roadstead.planner.builds import built, no_engine, serves
from roadstead.planner.explain import explain
from roadstead.planner.ladder import Ladder, resolved
from roadstead.planner.releases import contents_of
from roadstead.planner.rest import grounds
from roadstead.planner.suitability.capability import BuiltEngine
from roadstead.planner.suitability.rows import Backend, Engine
from roadstead.planner.survey import survey
from roadstead.planner.view import View
from roadstead.services.observe import observe
from tests.fixtures.memory_fleet import ENGINE, MIB, MemoryFleet, MemoryNode, artifact
from tests.fixtures.memory_pods import MemoryPods, image, pool
from tests.fixtures.safetensors_facts import SMOLLM2

GGUF = artifact("small", mebibytes=100)
TENSORS = Artifact(digest="sha256:" + "7" * 64, bytes=SMOLLM2.file_bytes, facts=SMOLLM2)
Q8, PLAIN = VariantSpec(name="q8", source="file:///q8.gguf"), VariantSpec(name="plain", source="file:///plain")
FILES = {Q8.source: GGUF, PLAIN.source: TENSORS}
VLLM = EngineBuild(engine="VLLM", image="vllm==0.33.0", backends=frozenset({"CUDA"}), version="0.33.0")


def described(build: EngineBuild, **words: object) -> EngineBuild:
    return replace(build, **words)  # type: ignore[arg-type]


def with_engines(*builds: EngineBuild, node: MemoryNode | None = None) -> MemoryFleet:
    return MemoryFleet(
        nodes={"a": node or MemoryNode(budget=2000 * MIB, files=dict(FILES))},
        pools=[Pool(name="local", node_selector=(), engines=builds)],
    )


def contents(fleet: MemoryFleet) -> list[tuple[str, str, str]]:
    """Of a model with both variants: variant, engine and image."""
    model = fleet.models[fleet.apply("m", Q8, PLAIN)]
    ladder = Ladder(rungs=(resolved(Q8, GGUF), resolved(PLAIN, TENSORS)), questions=())
    found = contents_of(model, ladder=ladder, pools=tuple(fleet.pools))
    return [(each.variant, each.engine, each.engine_image) for each in found]


def view_of(*builds: EngineBuild) -> View:
    fleet = with_engines()
    fleet.pools = [Pool(name=f"pool-{at}", node_selector=(), engines=(build,)) for at, build in enumerate(builds)]
    return survey(observe(fleet.ports, fleet.resolutions)).view


def content_with(build: EngineBuild) -> Content:
    return Content(
        variant="q8", source=Q8.source, quality=None, artifact=GGUF, engine=build.engine, engine_image=build.identity,
        task="Chat", served_name="m", context_tokens=2048, concurrency=1,
    )  # fmt: skip


# --- what a build is ---


def test_a_build_is_what_its_image_is_however_it_is_described() -> None:
    other = described(ENGINE, backends=frozenset({"CUDA"}), version="b11549", capability=(7, 5))

    assert other == ENGINE
    assert (other.identity, hash(other)) == (ENGINE.identity, hash(ENGINE))
    assert other.abilities != ENGINE.abilities


def test_a_build_of_which_nothing_is_said_runs_on_processors_alone() -> None:
    found = built(ENGINE)

    assert found is not None
    assert found == BuiltEngine(engine=Engine.LLAMA_CPP, version="", backends=frozenset({Backend.CPU}))
    assert found.name == "LlamaCpp"


def test_what_a_pool_says_of_a_build_is_what_the_tables_are_asked_with() -> None:
    found = built(described(VLLM, capability=(7, 5)))

    assert found is not None
    assert found == BuiltEngine(
        engine=Engine.VLLM, version="0.33.0", backends=frozenset({Backend.CUDA}), capability=(7, 5)
    )


def test_a_build_of_vllm_for_gaudi_has_the_plugin_without_which_there_is_none() -> None:
    gaudi, nvidia = built(described(VLLM, backends=frozenset({"HPU"}))), built(VLLM)

    assert gaudi is not None
    assert nvidia is not None
    assert gaudi.plugins == {"vllm-gaudi"}
    assert nvidia.plugins == frozenset()


def test_a_backend_of_a_later_version_is_passed_over() -> None:
    found = built(described(VLLM, backends=frozenset({"CUDA", "Photonic"})))

    assert found is not None
    assert found.backends == {Backend.CUDA}


def test_nothing_is_known_of_an_engine_that_no_table_has() -> None:
    assert built(EngineBuild(engine="Unheard", image="x")) is None


# --- which contents there are ---


def test_a_content_is_made_for_each_variant_and_engine_that_runs_its_scheme() -> None:
    fleet = with_engines(VLLM, ENGINE)

    assert contents(fleet) == [
        ("q8", "LlamaCpp", "xllamacpp==1"),
        ("q8", "VLLM", "vllm==0.33.0"),
        ("plain", "VLLM", "vllm==0.33.0"),
    ]


def test_llama_cpp_alone_has_the_contents_it_always_had() -> None:
    other = EngineBuild(engine="LlamaCpp", image="xllamacpp==2")

    assert contents(with_engines(other, ENGINE)) == [
        ("q8", "LlamaCpp", "xllamacpp==1"),
        ("q8", "LlamaCpp", "xllamacpp==2"),
    ]


@pytest.mark.parametrize("version", ["", "0.9.2", "0.33.0", "nightly"])
def test_which_contents_there_are_does_not_depend_on_what_is_said_of_a_build(version: str) -> None:
    plain = with_engines(VLLM)
    other = with_engines(described(VLLM, version=version, backends=frozenset({"CPU"}), capability=(9, 0)))

    assert contents(other) == contents(plain)


def test_an_engine_that_nobody_knows_has_no_contents() -> None:
    assert contents(with_engines(EngineBuild(engine="Unheard", image="x"))) == []


def test_what_no_engine_runs_is_said_with_what_the_engines_do_run() -> None:
    refusal = no_engine(SMOLLM2, (ENGINE, EngineBuild(engine="Unheard", image="x")))

    assert refusal == Verdict(
        reason=Reason.NO_FORMAT_ENGINE,
        message="no pool that it may use has an engine for unquantized SafeTensors; LlamaCpp runs GGUF; "
        "what Unheard runs is not known",
    )
    assert no_engine(SMOLLM2, (ENGINE, VLLM)) is None
    assert serves(VLLM, SMOLLM2)


def test_engines_of_many_schemes_name_them() -> None:
    refusal = no_engine(replace(GGUF.facts, scheme="Unheard"), (VLLM,))  # type: ignore[arg-type]

    assert refusal is not None
    assert "VLLM runs GGUF and SafeTensors (unquantized, GPTQ, AWQ, FP8, INT8" in refusal.message


# --- what is said of it ---


async def test_a_model_that_no_engine_runs_waits_for_a_person_and_says_why() -> None:
    fleet = with_engines(ENGINE)
    key = fleet.apply("m", PLAIN)

    await fleet.settle()

    status, reason, message = fleet.condition(key, "Placed")
    assert (status, reason) == ("False", "NoFormatEngine")
    assert "plain: no pool that it may use has an engine for unquantized SafeTensors; LlamaCpp runs GGUF" in message
    assert fleet.condition(key, "Stalled")[:2] == ("True", "NoFormatEngine")
    assert fleet.condition(key, "Resolved")[:2] == ("True", "Resolved")
    (row,) = fleet.statuses[key].variants
    assert (row.verdict.reason, row.bytes) == (Reason.NO_FORMAT_ENGINE, TENSORS.bytes)


async def test_a_variant_that_no_engine_runs_keeps_the_others_from_nothing() -> None:
    fleet = with_engines(ENGINE)
    key = fleet.apply("m", PLAIN, Q8)

    await fleet.settle()

    rows = {row.name: row.verdict.reason for row in fleet.statuses[key].variants}
    assert rows == {"plain": Reason.NO_FORMAT_ENGINE, "q8": Reason.CHOSEN}
    assert fleet.condition(key, "Stalled")[0] == "False"
    explained = explain(observe(fleet.ports, fleet.resolutions), fleet.now, key)
    assert [each.verdict.reason for each in explained.rungs if each.verdict] == [Reason.NO_FORMAT_ENGINE]


async def test_a_pool_whose_image_is_being_adopted_is_not_said_to_have_no_engine() -> None:
    fleet = with_engines()
    fleet.pools, fleet.pods = [pool(image("a"))], MemoryPods()
    fleet.apply("m", Q8)
    await fleet.settle()
    fleet.pods.adoptions.clear()
    key = fleet.apply("another", Q8)

    await fleet.turn()
    placed = fleet.condition(key, "Placed")
    await fleet.settle()

    assert placed[:2] == ("Unknown", "NotObserved")
    assert fleet.answering(key) == 1


# --- what is known of a content's build ---


def test_of_a_content_the_build_is_as_the_pool_that_has_its_image_says() -> None:
    cuda = described(ENGINE, backends=frozenset({"CPU", "CUDA"}), version="b11549")

    found = view_of(cuda).built(content_with(ENGINE))

    assert found == built(cuda)


def test_of_several_pools_with_one_image_the_first_that_says_anything_counts() -> None:
    cuda, rocm = (described(ENGINE, backends=frozenset({each})) for each in ("CUDA", "ROCm"))

    assert view_of(ENGINE, cuda, rocm).built(content_with(ENGINE)) == built(cuda)


def test_an_image_that_no_pool_has_any_more_is_known_to_run_on_processors() -> None:
    gone = EngineBuild(engine="LlamaCpp", image="xllamacpp==0")

    assert view_of(described(ENGINE, backends=frozenset({"CUDA"}))).built(content_with(gone)) == built(gone)


# --- what is said later ---


async def test_another_description_of_the_same_image_changes_nothing_that_runs() -> None:
    fleet = with_engines(ENGINE)
    fleet.check_rest = True
    key = fleet.apply("m", Q8)
    await fleet.settle()
    running, made = fleet.running(key), len(fleet.writes)
    fleet.pools = [
        replace(fleet.pools[0], engines=(described(ENGINE, backends=frozenset({"CUDA", "CPU"}), version="b1"),))
    ]

    await fleet.settle()

    assert (fleet.running(key), fleet.release_number(key), len(fleet.writes)) == (running, 1, made)


def test_a_model_at_rest_is_looked_at_again_when_more_is_said_of_a_build() -> None:
    fleet = with_engines()
    model = fleet.models[fleet.apply("m", Q8)]
    before, after, after_that = (
        grounds(model, view=view_of(build), seats={}, owners=(), crowded={})
        for build in (ENGINE, described(ENGINE, version="b11549"), described(ENGINE, version="b11549"))
    )

    assert before != after
    assert after == after_that


async def test_what_is_said_of_an_adopted_image_is_recorded_and_adopts_nothing_anew() -> None:
    fleet = with_engines()
    fleet.pools, fleet.pods = [pool(image("a"))], MemoryPods()
    key = fleet.apply("m", Q8)
    await fleet.settle()
    pods = dict(fleet.pods.pods)
    fleet.pools = [pool(described(image("a"), backends=frozenset({"CUDA", "CPU"})))]

    await fleet.settle()

    (recorded,) = fleet.pods.adoptions["cpu"]
    assert recorded.backends == {"CUDA", "CPU"}
    assert (fleet.pods.pods, fleet.release_number(key)) == (pods, 1)


async def test_an_image_that_serves_on_while_another_is_offered_stays_what_it_was_said_to_be() -> None:
    fleet = with_engines()
    cuda = described(image("a"), backends=frozenset({"CUDA"}), version="b1", capability=(7, 5))
    fleet.pools, fleet.pods = [pool(cuda)], MemoryPods()
    await fleet.settle()
    fleet.pools = [pool(image("b"))]

    await fleet.settle()

    seen = survey(observe(fleet.ports, fleet.resolutions))
    (adopted,) = seen.view.snapshot.pools[0].engines
    assert (adopted, adopted.abilities) == (cuda, cuda.abilities)
    assert seen.view.built(content_with(cuda)) == built(cuda)
