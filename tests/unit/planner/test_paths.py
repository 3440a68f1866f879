"""In which ways a build can run a content on a machine: the order, the kinds of devices, the refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roadstead.domain.inventory import Device, Sharing, Vendor
from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Artifact, Content
from roadstead.domain.snapshot import EngineBuild
from roadstead.planner.builds import built
from roadstead.planner.paths import WayIn, ways
from roadstead_weights.facts import ModelFacts, Scheme
from tests.fixtures.memory_fleet import artifact
from tests.fixtures.safetensors_facts import LLAMA_8B, SMOLLM2

AVX2 = frozenset({"avx2"})
L40S = Device(id="0", vendor=Vendor.NVIDIA, product="NVIDIA-L40S", memory_bytes=48, compute_capability=(8, 9))
T4 = replace(L40S, product="Tesla-T4", memory_bytes=16, compute_capability=(7, 5))
V100 = replace(L40S, product="Tesla-V100", memory_bytes=32, compute_capability=(7, 0))
LLAMA_CPP = EngineBuild(engine="LlamaCpp", image="a", backends=frozenset({"CPU", "CUDA"}), version="b11549")
VLLM = EngineBuild(engine="VLLM", image="b", backends=frozenset({"CUDA"}), version="0.33.0")
GGUF = artifact("small", mebibytes=100).facts


def cards(card: Device, number: int) -> tuple[Device, ...]:
    return tuple(replace(card, id=f"{card.product}-{at}", free_bytes=at) for at in range(number))


def asked(
    facts: ModelFacts, build: EngineBuild, *devices: Device, isa: frozenset[str] | None = AVX2
) -> tuple[WayIn, ...] | Verdict:
    content = Content(
        variant="v", source="file:///v", quality=None, engine=build.engine, engine_image=build.identity,
        artifact=Artifact(digest=f"sha256:{facts.name}{facts.scheme}{facts.dtype}", bytes=1, facts=facts),
        task="Chat", served_name="m", context_tokens=2048, concurrency=1,
    )  # fmt: skip
    return ways(content, built(build), isa, devices)


def told(found: tuple[WayIn, ...] | Verdict) -> list[tuple[str, int, bool]]:
    """Product, number and whether it is native."""
    assert not isinstance(found, Verdict), found.message
    return [(way.devices[0].product if way.devices else "", way.size, way.path.native) for way in found]


def test_few_devices_come_before_many_and_the_processor_comes_last() -> None:
    found = asked(GGUF, LLAMA_CPP, *cards(L40S, 4))

    assert told(found) == [("NVIDIA-L40S", 1, True), ("NVIDIA-L40S", 2, True), ("NVIDIA-L40S", 4, True), ("", 0, True)]


def test_a_machine_without_devices_has_its_processor() -> None:
    assert told(asked(GGUF, LLAMA_CPP)) == [("", 0, True)]
    assert told(asked(GGUF, LLAMA_CPP, isa=frozenset({"avx"}))) == [("", 0, False)]


def test_on_as_many_devices_a_native_way_comes_before_a_slow_one() -> None:
    fp8 = replace(LLAMA_8B, scheme=Scheme.FP8, dtype="float16", weight_bits=8)

    found = told(asked(fp8, VLLM, *cards(T4, 2), *cards(L40S, 2)))

    assert found == [
        ("NVIDIA-L40S", 1, True), ("Tesla-T4", 1, False), ("NVIDIA-L40S", 2, True), ("Tesla-T4", 2, False),
    ]  # fmt: skip


def test_devices_to_choose_from_are_those_of_the_machine_itself() -> None:
    mine = cards(L40S, 2)
    others = tuple(replace(each, id=f"other-{each.id}", free_bytes=7) for each in mine)

    assert not isinstance(found := asked(GGUF, LLAMA_CPP, *mine), Verdict)
    assert not isinstance(again := asked(GGUF, LLAMA_CPP, *others), Verdict)
    assert [way.devices for way in found] == [mine, mine, ()]
    assert [way.devices for way in again] == [others, others, ()]


def test_two_kinds_are_never_mixed() -> None:
    found = asked(GGUF, LLAMA_CPP, *cards(L40S, 1), *cards(T4, 1))

    assert told(found) == [("NVIDIA-L40S", 1, True), ("Tesla-T4", 1, True), ("", 0, True)]


def test_on_numbers_of_devices_that_the_heads_cannot_be_dealt_to_there_is_no_way() -> None:
    """SmolLM2 has nine heads."""
    assert told(asked(SMOLLM2, VLLM, *cards(L40S, 8))) == [("NVIDIA-L40S", 1, True)]


def test_a_shared_card_is_one_however_often_it_is_handed_out() -> None:
    shared = replace(L40S, sharing=Sharing.TIME_SLICING, clients=4)

    assert told(asked(GGUF, LLAMA_CPP, shared)) == [("NVIDIA-L40S", 1, True), ("", 0, True)]


def test_a_build_without_cpu_has_no_way_on_a_processor() -> None:
    alone = asked(LLAMA_8B, VLLM)

    assert told(asked(LLAMA_8B, VLLM, L40S)) == [("NVIDIA-L40S", 1, True)]
    assert isinstance(alone, Verdict)
    assert alone.reason is Reason.VENDOR_UNSUPPORTED


def test_a_build_of_which_nothing_is_said_leaves_devices_alone() -> None:
    assert told(asked(GGUF, EngineBuild(engine="LlamaCpp", image="a"), *cards(L40S, 2))) == [("", 0, True)]


def test_a_card_that_is_too_old_for_what_the_build_was_compiled_for_says_so() -> None:
    cuda13 = replace(LLAMA_CPP, backends=frozenset({"CUDA"}), capability=(7, 5))

    refusal = asked(GGUF, cuda13, V100)

    assert isinstance(refusal, Verdict)
    assert refusal == Verdict(
        reason=Reason.COMPUTE_CAPABILITY_TOO_LOW,
        message="LlamaCpp b11549 needs compute capability 7.5 for GGUF, Tesla-V100 has 7.0",
    )


def test_of_several_refusals_the_one_that_got_furthest_is_told() -> None:
    """The V100 is too old, on the L40S it is the groups."""
    odd = replace(LLAMA_8B, scheme=Scheme.GPTQ, dtype="float16", weight_bits=4, group_size=96)

    refusal = asked(odd, VLLM, replace(V100, compute_capability=(6, 1)), L40S)

    assert isinstance(refusal, Verdict)
    assert refusal.reason is Reason.NO_FORMAT_ENGINE
    assert "has 96" in refusal.message


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (EngineBuild(engine="Unheard", image="x"), "what Unheard runs is not known"),
        (replace(VLLM, version="0.9.2"), "VLLM 0.9.2 does not run unquantized SafeTensors"),
        (replace(VLLM, version=""), "depends on its version, which the WorkerPool does not tell (spec.engines"),
        (LLAMA_CPP, "LlamaCpp b11549 does not run unquantized SafeTensors"),
    ],
)
def test_what_a_build_does_not_run_is_refused_in_words(build: EngineBuild, words: str) -> None:
    refusal = asked(LLAMA_8B, build, L40S)

    assert isinstance(refusal, Verdict)
    assert refusal.reason is Reason.NO_FORMAT_ENGINE
    assert words in refusal.message
