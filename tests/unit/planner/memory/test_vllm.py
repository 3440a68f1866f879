"""The bounds for vLLM against what others measured, and against its own rules for blocks of the cache.

Measured: llm-d-incubation/llm-d-planner, accuracy/accuracy_report.md (vLLM 0.19 on an H100, 1,024 sequences); a context
of CUDA alone holds 0.51 GiB there, as its logs say.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadstead.planner.memory.needs import Needs
from roadstead.planner.memory.vllm import kv_cache_bytes, needs_of_vllm
from roadstead_weights.facts import ModelFacts, TensorGroup
from tests.fixtures.safetensors_facts import (
    DEEPSEEK_V2_LITE,
    GEMMA_2_9B,
    GEMMA_3_12B,
    GRANITE_2B,
    LLAMA_8B,
    LLAMA_70B,
    QWEN2_7B,
    QWEN3_14B,
    QWEN3_30B,
    SMOLLM2,
)

GIB = 1024**3
CUDA_CONTEXT = 0.51
SERVED = [LLAMA_8B, LLAMA_70B, QWEN2_7B, QWEN3_30B, GEMMA_3_12B, DEEPSEEK_V2_LITE]
L4, A10 = 22.49 * GIB, 22.49 * GIB
"""What a card of 24 GB offers."""


def needs(facts: ModelFacts, *, devices: int = 1, context: int = 8192, concurrency: int = 1) -> Needs:
    return needs_of_vllm(facts, context_tokens=context, concurrency=concurrency, devices=devices)


@pytest.mark.parametrize(
    ("facts", "devices", "weights", "activations", "outside"),
    [
        (LLAMA_8B, 1, 14.99, 1.89, 0.25),
        (LLAMA_8B, 2, 7.51, 1.89, 2.07),
        (LLAMA_8B, 4, 3.77, 1.89, 2.13),
        (QWEN2_7B, 1, 14.25, 2.21, 0.24),
        (QWEN2_7B, 2, 7.12, 2.21, 2.06),
        (QWEN2_7B, 4, 3.55, 2.21, 2.13),
        (QWEN3_14B, 1, 27.52, 2.23, 0.25),
        (QWEN3_30B, 1, 56.88, 2.68, 0.27),
        (DEEPSEEK_V2_LITE, 1, 29.43, 1.93, 0.26),
        (GEMMA_2_9B, 1, 17.22, 3.65, 0.25),
        (GRANITE_2B, 1, 4.74, 0.75, 0.46),
    ],
)
def test_what_vllm_was_seen_to_hold_beside_its_cache_is_between_the_bounds(
    facts: ModelFacts, devices: int, weights: float, activations: float, outside: float
) -> None:
    sequences = 1024
    measured = weights + activations + outside + CUDA_CONTEXT

    of_many = needs(facts, devices=devices, context=16, concurrency=sequences).device
    cache = kv_cache_bytes(facts, context_tokens=16, concurrency=sequences, devices=devices)

    assert of_many.least / GIB < measured
    assert measured < (of_many.most - cache) / GIB < measured * 1.35 + 1.5


@pytest.mark.parametrize(
    ("facts", "tokens", "gibibytes"),
    [(LLAMA_8B, 476_016, 58.11), (QWEN2_7B, 1_096_000, 58.53)],
)
def test_the_cache_holds_as_many_tokens_as_vllm_said_of_it(facts: ModelFacts, tokens: int, gibibytes: float) -> None:
    cache = kv_cache_bytes(facts, context_tokens=tokens, concurrency=1, devices=1)

    assert cache / GIB == pytest.approx(gibibytes, rel=0.001)


def test_a_model_of_16_bits_is_certain_on_a_card_of_24_gb_and_one_of_8_bits_less_needs_half() -> None:
    """Llama 3.1 8B is served on L4 and A10 by everybody, with 8,192 tokens; AWQ leaves room for several sequences."""
    assert needs(LLAMA_8B).device.most < L4
    awq = replace(LLAMA_8B, tensors=(TensorGroup(type="I32", elements=8_030_261_248, bytes=int(5.33 * GIB)),))
    assert needs(awq, concurrency=8).device.most < 0.92 * A10
    assert needs(awq).device.most < 0.5 * needs(LLAMA_8B).device.most + 1.7 * GIB


def test_a_model_of_70_billion_weights_in_4_bits_needs_two_cards_of_24_gb_and_hardly_has_room_there() -> None:
    """37 GiB in AWQ: 18.5 on each, and 0.6 for a cache of 4,096 tokens."""
    awq = replace(LLAMA_70B, tensors=(TensorGroup(type="I32", elements=70_553_706_496, bytes=int(37.0 * GIB)),))

    assert needs(awq, devices=1).device.least > L4
    two = needs(awq, devices=2, context=4096).device
    assert two.least < L4 < two.most
    assert needs(awq, devices=4, context=4096).device.most < L4


def test_heads_of_keys_and_values_are_divided_until_each_device_has_one() -> None:
    one, eight, sixteen = (
        kv_cache_bytes(LLAMA_8B, context_tokens=8192, concurrency=1, devices=devices) for devices in (1, 8, 16)
    )

    assert one == pytest.approx(8 * eight)
    assert sixteen == eight


def test_a_latent_is_on_every_device_in_full() -> None:
    alone = kv_cache_bytes(DEEPSEEK_V2_LITE, context_tokens=8192, concurrency=1, devices=1)

    assert kv_cache_bytes(DEEPSEEK_V2_LITE, context_tokens=8192, concurrency=1, devices=4) == alone
    assert alone / 8208 == 27 * (512 + 64) * 2


def test_layers_with_a_window_are_grouped_as_vllm_groups_them() -> None:
    """Gemma 3 12B: eight layers see everything, forty 1,024 tokens: six groups of eight."""
    page = 16 * 8 * (256 + 256) * 2
    blocks = 131_072 // 16 + 5 * ((1024 + 8192) // 16 + 1)

    cache = kv_cache_bytes(GEMMA_3_12B, context_tokens=131_072, concurrency=1, devices=1)

    assert cache == pytest.approx(8 * blocks * page, rel=0.01)
    assert cache < 0.25 * 48 * 8192 * page


def test_where_it_is_not_known_whose_the_window_is_the_bounds_are_apart() -> None:
    unknown = replace(
        GEMMA_3_12B, numbers=tuple(each for each in GEMMA_3_12B.numbers if each[0] != "sliding_window_pattern")
    )

    known, apart = needs(GEMMA_3_12B, context=65_536).device, needs(unknown, context=65_536).device

    assert apart.least < known.least
    assert apart.most > known.most


def test_a_cache_is_as_large_as_asked_for_and_not_as_the_card() -> None:
    """Blocks of 16 tokens, and one that stays empty."""
    per_token = 32 * 8 * (128 + 128) * 2

    assert kv_cache_bytes(LLAMA_8B, context_tokens=4090, concurrency=3, devices=1) == per_token * (3 * 4096 + 16)


def test_weights_in_32_bits_are_perhaps_served_in_16() -> None:
    wide = replace(LLAMA_8B, tensors=(TensorGroup(type="F32", elements=8_030_261_248, bytes=4 * 8_030_261_248),))

    assert needs(wide).device.least == needs(LLAMA_8B).device.least
    assert needs(wide).device.most > needs(LLAMA_8B).device.most + 14 * GIB


def test_only_several_devices_share_memory_of_the_host() -> None:
    assert needs(LLAMA_8B).shared_memory == 0
    assert GIB < needs(LLAMA_8B, devices=2).shared_memory < needs(LLAMA_8B, devices=4).shared_memory < 4 * GIB
    assert needs(LLAMA_8B, devices=2).page_cache == 0
    assert needs(LLAMA_8B).host.most < 6 * GIB < needs(LLAMA_8B, devices=4).host.most


def test_on_a_cpu_everything_is_on_the_host() -> None:
    """Measured with vLLM 0.32 and SmolLM2 in bfloat16 with 1 GiB of cache: 3.7 GiB in three processes."""
    found = needs(SMOLLM2, devices=0, context=46_592)

    assert found.device.most == 0
    assert found.host.least / GIB < 3.7 < found.host.most / GIB


@given(
    facts=st.sampled_from(SERVED),
    context=st.integers(1, 200_000),
    further=st.integers(0, 50_000),
    concurrency=st.integers(1, 64),
    more=st.integers(0, 64),
    devices=st.sampled_from([0, 1, 2, 4, 8]),
)
def test_more_context_and_more_sequences_never_need_less_and_bounds_are_in_order(  # noqa: PLR0917 - one for each that is drawn
    facts: ModelFacts, context: int, further: int, concurrency: int, more: int, devices: int
) -> None:
    small = needs(facts, devices=devices, context=context, concurrency=concurrency)
    large = needs(facts, devices=devices, context=context + further, concurrency=concurrency + more)

    for less, greater in ((small.device, large.device), (small.host, large.host)):
        assert less.least <= less.most
        assert less.least <= greater.least
        assert less.most <= greater.most
