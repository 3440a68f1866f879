"""Computed speeds against measured ones, and what of a model is active."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roadstead.domain.inventory import Device, Vendor
from roadstead.planner.device_speeds import DeviceSpeed, speed_of
from roadstead.planner.roofline import (
    Computed,
    active,
    decode_on_devices,
    decode_on_host,
    first_token_on_devices,
)
from roadstead_weights.facts import Format, ModelFacts, Scheme, TensorGroup
from tests.fixtures.safetensors_facts import (
    DEEPSEEK_V2_LITE,
    DEEPSEEK_V3,
    LLAMA_8B,
    MIXTRAL,
    QWEN3_30B,
    SMOLLM2,
)

MIB = 1024 * 1024
ONE_CORE = 18.7e9
"""Bytes a second that one core of the machine below was seen to read."""
SLOW = DeviceSpeed(bandwidth=100e9, fp16=10e12, int8=20e12, fp8=40e12)


def gguf(facts: ModelFacts, kind: str, size: float) -> ModelFacts:
    tensors = (TensorGroup(type=kind, elements=facts.parameters, bytes=int(size)),)
    return replace(facts, format=Format.GGUF, architecture="llama", tensors=tensors, scheme=Scheme.GGML)


def card(product: str) -> DeviceSpeed:
    found = speed_of(Device(id="0", vendor=Vendor.NVIDIA, product=product, memory_bytes=0))
    assert found is not None
    return found


def known(found: Computed | None) -> Computed:
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("kind", "mebibytes", "measured"),
    [
        ("F16", 256.6, 86),
        ("Q8_0", 136.4, 76),
        ("Q6_K", 130.3, 99),
        ("Q4_K_M", 98.9, 125),
        ("Q4_0", 85.8, 102),
        ("IQ4_NL", 85.6, 109),
        ("Q2_K", 81.9, 116),
    ],
)
def test_on_one_core_a_small_model_gave_up_to_twice_what_is_expected_and_never_more_than_is_possible(
    kind: str, mebibytes: float, measured: float
) -> None:
    """SmolLM2 (135 M) with 256 tokens on one core of an EPYC (Zen 5) of which others used the rest."""
    found = known(decode_on_host(gguf(SMOLLM2, kind, mebibytes * MIB), bandwidth=ONE_CORE, context_tokens=256))

    assert found.expected < measured < min(2.2 * found.expected, found.best)


@pytest.mark.parametrize(
    ("product", "gigabytes", "cards", "measured"),
    [
        ("NVIDIA-GeForce-RTX-3090", 16.06, 1, 46.5),
        ("NVIDIA-GeForce-RTX-3090", 16.06, 4, 46.4),
        ("NVIDIA-GeForce-RTX-3090", 4.92, 1, 111.7),
        ("NVIDIA-GeForce-RTX-4090", 16.06, 1, 54.3),
        ("NVIDIA-GeForce-RTX-4090", 4.92, 1, 127.7),
        ("NVIDIA-GeForce-RTX-4090", 4.92, 4, 117.6),
    ],
)
def test_on_devices_llama_cpp_was_measured_to_give_up_to_a_third_more_than_is_expected(
    product: str, gigabytes: float, cards: int, measured: float
) -> None:
    """Llama 3 8B in F16 and Q4_K_M, 1,024 tokens: XiongjieDai/GPU-Benchmarks-on-LLM-Inference, README.md."""
    facts = gguf(LLAMA_8B, "F16", gigabytes * 1e9)

    found = known(decode_on_devices(facts, [card(product)] * cards, context_tokens=512))

    assert found.expected < measured < min(1.35 * found.expected, found.best)


def test_vllm_was_measured_within_a_factor_of_one_and_a_quarter() -> None:
    """75 tokens/s of Llama 3.1 8B with 1,024 tokens on an A100 of 40 GB: johnmusgrave.com, vLLM 0.23."""
    found = known(decode_on_devices(LLAMA_8B, [card("NVIDIA-A100-SXM4-40GB")], context_tokens=1024))

    assert found.expected < 75 < min(1.25 * found.expected, found.best)


@pytest.mark.parametrize(
    ("product", "gigabytes", "tokens_per_second"),
    [
        ("NVIDIA-GeForce-RTX-3090", 16.06, 4240),
        ("NVIDIA-GeForce-RTX-3090", 4.92, 3865),
        ("NVIDIA-GeForce-RTX-4090", 16.06, 9056),
        ("NVIDIA-GeForce-RTX-4090", 4.92, 6899),
    ],
)
def test_prompts_were_measured_within_a_factor_of_two_and_never_faster_than_is_possible(
    product: str, gigabytes: float, tokens_per_second: float
) -> None:
    """The same table, 1,024 tokens."""
    facts = gguf(LLAMA_8B, "F16", gigabytes * 1e9)
    measured = 1024 / tokens_per_second

    found = known(first_token_on_devices(facts, [card(product)], prompt_tokens=1024))

    assert found.best < measured
    assert found.expected / 2 < measured < 2 * found.expected


@pytest.mark.parametrize(
    ("facts", "billions"),
    [(MIXTRAL, 12.9), (QWEN3_30B, 3.3), (DEEPSEEK_V2_LITE, 2.66), (DEEPSEEK_V3, 37.0), (LLAMA_8B, 8.03)],
)
def test_the_active_weights_are_those_that_the_makers_tell(facts: ModelFacts, billions: float) -> None:
    """DeepSeek V2 Lite is told as 2.4, which leaves out its embedding."""
    through = active(facts)

    assert through is not None
    assert through.weights / 1e9 == pytest.approx(billions, rel=0.03)
    assert through.bytes == pytest.approx(2 * through.weights, rel=0.001)


def test_experts_of_unknown_size_are_not_judged() -> None:
    unknown = replace(MIXTRAL, feed_forward_length=0)
    too_many = replace(MIXTRAL, numbers=(("num_experts_per_tok", 9), ("num_local_experts", 8)))

    for facts in (unknown, too_many):
        assert active(facts) is None
        assert decode_on_host(facts, bandwidth=ONE_CORE, context_tokens=100) is None
        assert first_token_on_devices(facts, [SLOW], prompt_tokens=100) is None


def test_weights_that_share_an_element_of_the_file_are_counted_all_the_same() -> None:
    """A GPTQ file holds eight weights of 4 bits in 32."""
    linear = 6_979_321_856
    packed = replace(
        LLAMA_8B,
        tensors=(
            TensorGroup(type="I32", elements=linear // 8, bytes=linear // 2),
            TensorGroup(type="F16", elements=1_050_939_392, bytes=2 * 1_050_939_392),
        ),
        scheme=Scheme.GPTQ,
        weight_bits=4,
    )

    through = active(packed)

    assert through is not None
    assert through.weights == LLAMA_8B.parameters


def test_a_longer_context_a_smaller_share_of_bits_and_fewer_devices_are_slower() -> None:
    def tokens(facts: ModelFacts, *, context: int = 100, devices: int = 1) -> float:
        return known(decode_on_devices(facts, [SLOW] * devices, context_tokens=context)).expected

    assert tokens(LLAMA_8B, context=8000) < 0.95 * tokens(LLAMA_8B)
    assert tokens(LLAMA_8B, devices=4) == pytest.approx(4**0.8 * tokens(LLAMA_8B), rel=0.001)
    half = gguf(LLAMA_8B, "Q8_0", 8.5 / 16 * LLAMA_8B.tensor_bytes)
    assert 1.6 < tokens(half) / tokens(gguf(LLAMA_8B, "F16", LLAMA_8B.tensor_bytes)) < 16 / 8.5


def test_bits_that_a_device_computes_with_count_and_bits_that_are_only_stored_do_not() -> None:
    def seconds(scheme: Scheme) -> Computed:
        return known(first_token_on_devices(replace(LLAMA_8B, scheme=scheme), [SLOW], prompt_tokens=1000))

    plain, awq, int8, fp8, fp4 = map(seconds, (Scheme.PLAIN, Scheme.AWQ, Scheme.INT8, Scheme.FP8, Scheme.NVFP4))
    assert plain.expected == awq.expected == pytest.approx(2 * 8.03e9 * 1000 / (0.45 * 10e12), rel=0.001)
    assert (int8.expected, fp8.expected) == (plain.expected / 2, plain.expected / 4)
    assert awq.best == plain.best / 4  # there may be a kernel for it
    assert fp4.best == plain.best / 8


def test_a_table_of_tokens_need_not_be_read_so_the_best_is_without_it_and_without_a_context() -> None:
    """Where it is the output head as well, that is more than is possible; the header does not tell."""
    found = known(decode_on_devices(LLAMA_8B, [SLOW], context_tokens=8192))

    assert found.best == pytest.approx(100e9 / (2 * (LLAMA_8B.parameters - 128_256 * 4096)))


def test_the_slowest_of_several_devices_counts() -> None:
    fast = DeviceSpeed(bandwidth=900e9, fp16=90e12, int8=0, fp8=0)

    assert decode_on_devices(LLAMA_8B, [fast, SLOW], context_tokens=100) == decode_on_devices(
        LLAMA_8B, [SLOW, SLOW], context_tokens=100
    )
    assert decode_on_devices(LLAMA_8B, [], context_tokens=100) is None
