"""The memory formulas against what llama.cpp's own allocator reported."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roadstead.planner.memory.llama_cpp import estimate_llama_cpp
from roadstead_weights.facts import Format, ModelFacts, TensorGroup
from roadstead_weights.repacking import better_read, repacked_bytes

MIB = 1024 * 1024


def smollm2(kind: str, mebibytes: float, repackable: float = 0.0) -> ModelFacts:
    """SmolLM2-135M, whose shapes the measured figures belong to."""
    return ModelFacts(
        format=Format.GGUF,
        architecture="llama",
        name="SmolLM2",
        quantization=kind,
        file_bytes=0,
        tensors=(
            TensorGroup(
                type=kind, elements=134_515_008, bytes=int(mebibytes * MIB), repackable_bytes=int(repackable * MIB)
            ),
        ),
        block_count=30,
        context_length=8192,
        embedding_length=576,
        feed_forward_length=1536,
        head_count=9,
        head_count_kv=(3,) * 30,
        key_length=64,
        value_length=64,
        vocabulary_size=49152,
    )


@pytest.mark.parametrize(
    ("context", "concurrency", "kv_cache", "compute"),
    [
        (512, 1, 11.25, 15.14),
        (128, 4, 22.50, 14.89),  # 512 tokens over 4 sequences are padded to 256 cells each
        (2048, 1, 45.00, 16.64),
        (512, 4, 45.00, 15.14),
        (8192, 1, 180.0, 22.64),
        (2048, 4, 180.0, 16.64),
    ],
)
def test_cache_and_compute_buffers_are_the_allocators(
    context: int, concurrency: int, kv_cache: float, compute: float
) -> None:
    estimate = estimate_llama_cpp(
        smollm2("Q8_0", 136.4), context_tokens=context, concurrency=concurrency, isa=("avx2",)
    )

    assert estimate.kv_cache / MIB == pytest.approx(kv_cache)
    assert estimate.compute / MIB == pytest.approx(compute, abs=0.01)
    assert estimate.output == 4 * 49152 * concurrency


@pytest.mark.parametrize(
    ("kind", "isa", "repacked"),
    [
        ("Q4_0", ("avx2",), 57.0),
        ("Q4_0", (), 0.0),
        ("Q8_0", ("avx2",), 0.0),
        ("Q8_0", ("asimddp",), 57.0),
    ],
)
def test_only_types_that_the_cpu_rearranges_are_repacked(kind: str, isa: tuple[str, ...], repacked: float) -> None:
    facts = smollm2(kind, 85.8, repackable=57.0)

    assert repacked_bytes(facts, isa) / MIB == pytest.approx(repacked)
    assert better_read(facts, isa) == (repacked > 0)


@pytest.mark.parametrize(("repackable", "weights"), [(57.0, 85.8), (5.0, 90.8), (0.0, 85.8)])
def test_what_is_rearranged_is_held_once_unless_it_is_so_little_that_mapping_is_better(
    repackable: float, weights: float
) -> None:
    facts = smollm2("Q4_0", 85.8, repackable=repackable)

    estimate = estimate_llama_cpp(facts, context_tokens=512, concurrency=1, isa=("avx2",))

    assert (estimate.weights + estimate.repacked) / MIB == pytest.approx(weights)


def test_an_embedding_that_is_the_output_head_as_well_is_held_twice_all_the_same() -> None:
    facts = smollm2("Q4_0", 85.8, repackable=57.0)
    (group,) = facts.tensors
    tied = replace(facts, tensors=(replace(group, looked_up_bytes=int(15.2 * MIB)),))

    estimate = estimate_llama_cpp(tied, context_tokens=512, concurrency=1, isa=("avx2",))

    assert (estimate.weights + estimate.repacked) / MIB == pytest.approx(85.8 + 15.2)


def test_a_larger_tokenizer_and_more_sequences_cost_the_process_more() -> None:
    """Measured with a vocabulary grown by 98,304 tokens and as many merges: 37 to 38 MiB beside the tensors."""
    small = replace(smollm2("Q4_1", 92.1), vocabulary_merges=48_900)
    large = replace(small, vocabulary_size=147_456, vocabulary_merges=147_204)

    def runtime(facts: ModelFacts, concurrency: int) -> float:
        estimate = estimate_llama_cpp(facts, context_tokens=512, concurrency=concurrency, isa=())
        return estimate.runtime / MIB

    assert runtime(large, 1) - runtime(small, 1) == pytest.approx(40, abs=2)
    assert runtime(small, 4) - runtime(small, 1) == pytest.approx(3.4, abs=0.1)


@pytest.mark.parametrize(
    ("kind", "tensors", "context", "concurrency", "measured"),
    [
        ("Q4_1", 92.1, 512, 1, 172.4),
        ("Q4_1", 92.1, 2048, 4, 346.3),
        ("Q8_0", 136.4, 8192, 1, 388.2),
        ("BF16", 256.6, 512, 4, 376.1),
        ("BF16", 256.6, 8192, 4, 1051.5),
    ],
)
def test_the_whole_is_within_three_percent_of_what_an_engine_held(
    kind: str, tensors: float, context: int, concurrency: int, measured: float
) -> None:
    facts = replace(smollm2(kind, tensors), vocabulary_merges=48_900)

    estimate = estimate_llama_cpp(facts, context_tokens=context, concurrency=concurrency, isa=("avx2",))

    assert estimate.total / MIB == pytest.approx(measured, rel=0.03)
