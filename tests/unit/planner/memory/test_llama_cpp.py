"""The bounds for llama.cpp, on the host and with all layers on devices."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadstead.planner.memory.llama_cpp import estimate_llama_cpp, needs_of_llama_cpp
from roadstead.planner.memory.needs import Needs
from roadstead.planner.memory.offloading import largest_part, offloaded
from roadstead_weights.facts import Format, ModelFacts, TensorGroup
from tests.fixtures.architectures import DENSE, OTHERS, facts_of

MIB = 1024 * 1024
Q4_K, Q6_K = 4.5 / 8, 6.5625 / 8
"""Bytes of a weight."""
LLAMA_8B_TABLE = 128_256 * 4096
LLAMA_8B_Q6 = LLAMA_8B_TABLE + 16 * 4096 * (14336 + 1024)
LLAMA_8B_Q4 = 8_030_261_312 - 266_304 - LLAMA_8B_Q6
LLAMA_8B = ModelFacts(
    format=Format.GGUF,
    architecture="llama",
    name="Llama 3.1 8B",
    quantization="Q4_K_M",
    file_bytes=4_920_734_272,
    tensors=(
        TensorGroup(type="F32", elements=266_304, bytes=4 * 266_304),
        TensorGroup(
            type="Q4_K",
            elements=LLAMA_8B_Q4,
            bytes=int(LLAMA_8B_Q4 * Q4_K),
            repackable_bytes=int((LLAMA_8B_Q4 - LLAMA_8B_TABLE) * Q4_K),
        ),
        TensorGroup(
            type="Q6_K",
            elements=LLAMA_8B_Q6,
            bytes=int(LLAMA_8B_Q6 * Q6_K),
            repackable_bytes=int(LLAMA_8B_Q6 * Q6_K),
        ),
    ),
    block_count=32,
    context_length=131_072,
    embedding_length=4096,
    feed_forward_length=14336,
    head_count=32,
    head_count_kv=(8,) * 32,
    key_length=128,
    value_length=128,
    vocabulary_size=128_256,
    vocabulary_merges=280_147,
)
"""Q4_K_M: the embedding in Q4_K, the head in Q6_K."""


def needs(facts: ModelFacts, *, devices: int, context: int = 2048, concurrency: int = 4) -> Needs:
    return needs_of_llama_cpp(facts, context_tokens=context, concurrency=concurrency, isa=("avx2",), devices=devices)


def test_the_embedding_stays_on_the_host_as_llama_cpp_prints_it() -> None:
    """Everybody's log of this file: ``CPU_Mapped model buffer size = 281.81 MiB``, ``CUDA0 … 4403.49 MiB``."""
    weights = offloaded(LLAMA_8B)

    assert weights.host / MIB == pytest.approx(281.81, abs=0.01)
    assert weights.devices.least == weights.devices.most
    assert weights.devices.most / MIB == pytest.approx(4403.49, abs=0.05)
    assert needs(LLAMA_8B, devices=1).page_cache == weights.host


def test_weights_cache_and_compute_are_on_the_device_with_what_cuda_takes_itself() -> None:
    """The same log: ``CUDA0 KV buffer size = 1024.00 MiB`` for four sequences of 2,048 tokens."""
    found = needs(LLAMA_8B, devices=1).device
    computed = estimate_llama_cpp(LLAMA_8B, context_tokens=2048, concurrency=4, isa=()).compute / MIB
    held = 4403.49 + 1024.0

    assert found.least / MIB == pytest.approx(held + 0.8 * computed + 307, abs=1)
    assert found.most / MIB == pytest.approx(held + computed + 4 * 128_256 * 4 / MIB + 614 + 1024, abs=1)


def test_a_tied_embedding_is_there_twice() -> None:
    table = int(LLAMA_8B_TABLE * Q6_K)
    elements = LLAMA_8B_TABLE + 10**9
    group = TensorGroup(
        type="Q6_K",
        elements=elements,
        bytes=int(elements * Q6_K),
        repackable_bytes=int(elements * Q6_K),
        looked_up_bytes=table,
    )

    weights = offloaded(replace(LLAMA_8B, tensors=(group,)))

    assert weights.host == weights.head.most == table
    assert weights.devices.least == weights.devices.most == group.bytes


def test_where_nothing_tells_whether_the_head_is_the_embedding_the_bounds_are_apart() -> None:
    odd = replace(LLAMA_8B, vocabulary_size=128_255)

    weights = offloaded(odd)

    assert weights.devices.most == odd.tensor_bytes
    assert (weights.devices.most - weights.devices.least) / MIB == pytest.approx(281.81, abs=0.01)


def test_layers_are_spread_in_equal_numbers_and_the_head_is_one_of_them() -> None:
    weights = offloaded(LLAMA_8B)
    block = (weights.devices.most - weights.head.least) / 32
    caches = [100.0 * MIB] * 32

    on_two = largest_part(weights, caches, blocks=32, devices=2)
    on_eleven = largest_part(weights, caches, blocks=32, devices=11)

    assert on_two == pytest.approx(17 * (block + 100 * MIB))
    assert on_eleven == pytest.approx(2 * (block + 100 * MIB) + weights.head.most)


def test_more_devices_need_less_of_each_and_more_together() -> None:
    each = {devices: needs(LLAMA_8B, devices=devices).device for devices in (1, 2, 4)}

    assert each[1].most > each[2].most > each[4].most
    assert each[1].least > each[2].least > each[4].least
    assert each[1].most < 2 * each[2].most < 4 * each[4].most


@pytest.mark.parametrize("isa", [(), ("avx2",)])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_on_the_host_the_bounds_lie_around_the_estimate(isa: tuple[str, ...], concurrency: int) -> None:
    estimate = estimate_llama_cpp(LLAMA_8B, context_tokens=8192, concurrency=concurrency, isa=isa)

    found = needs_of_llama_cpp(LLAMA_8B, context_tokens=8192, concurrency=concurrency, isa=isa, devices=0)

    assert 0.97 * estimate.total < found.host.least + found.page_cache < estimate.total
    assert estimate.total < found.host.most + found.page_cache < 1.03 * estimate.total
    assert found.device.most == 0


def test_what_is_read_instead_of_mapped_is_not_in_the_page_cache() -> None:
    mapped, read = (
        needs_of_llama_cpp(LLAMA_8B, context_tokens=512, concurrency=1, isa=isa, devices=0) for isa in ((), ("avx2",))
    )

    assert mapped.page_cache == LLAMA_8B.tensor_bytes
    assert read.page_cache == 0
    assert read.host.least > LLAMA_8B.tensor_bytes


@given(
    name=st.sampled_from([*DENSE, *OTHERS]),
    context=st.integers(1, 100_000),
    further=st.integers(0, 30_000),
    concurrency=st.integers(1, 16),
    more=st.integers(0, 8),
    devices=st.integers(0, 8),
)
def test_more_context_and_more_sequences_never_need_less_and_bounds_are_in_order(  # noqa: PLR0917 - what is drawn
    name: str, context: int, further: int, concurrency: int, more: int, devices: int
) -> None:
    facts = replace(facts_of({**DENSE, **OTHERS}[name]), tensors=LLAMA_8B.tensors, file_bytes=LLAMA_8B.file_bytes)

    small = needs(facts, devices=devices, context=context, concurrency=concurrency)
    large = needs(facts, devices=devices, context=context + further, concurrency=concurrency + more)

    for less, greater in ((small.device, large.device), (small.host, large.host)):
        assert 0 <= less.least <= less.most
        assert less.least <= greater.least
        assert less.most <= greater.most
