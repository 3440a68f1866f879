"""The memory formulas against llama.cpp's own allocator, over headers of the architectures that people run."""

from __future__ import annotations

import pytest

from roadstead.planner.memory.llama_cpp import MemoryEstimate, estimate_llama_cpp, needs_of_llama_cpp
from tests.fixtures.architectures import DENSE, OTHERS, VOCABULARY, facts_of
from tests.fixtures.llama_allocator import Q8_0, Metadata, Serving, allocated

MEBIBYTE = 1 << 20
PRINTED = 0.011
"""llama.cpp prints two decimals of a MiB."""
SERVINGS = (
    Serving(context=512),
    Serving(context=8192),
    Serving(context=12000),
    Serving(context=2048, sequences=4),
    Serving(context=4096, micro_batch=128),
    Serving(context=4096, cache=Q8_0),
)


def estimate(metadata: Metadata, serving: Serving) -> MemoryEstimate:
    cache = "q8_0" if serving.cache == Q8_0 else "f16"
    return estimate_llama_cpp(
        facts_of(metadata),
        context_tokens=serving.context,
        concurrency=serving.sequences,
        isa=(),
        keys=cache,
        values=cache,
        micro_batch=serving.micro_batch,
    )


@pytest.mark.parametrize("name", [*DENSE, *OTHERS])
def test_caches_are_the_allocators_and_the_compute_buffer_is_never_too_small(name: str) -> None:
    metadata = {**DENSE, **OTHERS}[name]
    real = allocated(metadata, vocabulary=VOCABULARY, servings=SERVINGS)

    for serving, sizes in zip(SERVINGS, real, strict=True):
        estimated = estimate(metadata, serving)
        assert estimated.kv_cache / MEBIBYTE == pytest.approx(sizes.kv, rel=0.005, abs=PRINTED), serving
        assert estimated.states / MEBIBYTE == pytest.approx(sizes.states, rel=0.005, abs=PRINTED), serving
        assert estimated.output / MEBIBYTE == pytest.approx(sizes.output, rel=0.005, abs=PRINTED), serving
        assert sizes.compute - PRINTED <= estimated.compute / MEBIBYTE <= 1.25 * sizes.compute, serving


@pytest.mark.parametrize("name", DENSE)
def test_the_compute_buffer_of_a_dense_model_is_the_allocators(name: str) -> None:
    servings = [serving for serving in SERVINGS if serving.cache != Q8_0]
    real = allocated(DENSE[name], vocabulary=VOCABULARY, servings=servings)

    for serving, sizes in zip(servings, real, strict=True):
        compute = estimate(DENSE[name], serving).compute / MEBIBYTE
        assert compute == pytest.approx(sizes.compute, rel=0.005), serving


@pytest.mark.parametrize("name", ["Llama 3 8B", "Gemma 3 12B", "Mixtral 8x7B", "Qwen3 Next", "RWKV 7"])
def test_what_the_allocator_takes_is_between_the_bounds_of_a_device(name: str) -> None:
    """Its buffers on the CPU are those that a device has, but for what the vendor's libraries take."""
    metadata = {**DENSE, **OTHERS}[name]
    servings = [serving for serving in SERVINGS if serving.cache != Q8_0 and serving.micro_batch == 512]
    real = allocated(metadata, vocabulary=VOCABULARY, servings=servings)

    for serving, sizes in zip(servings, real, strict=True):
        bounds = needs_of_llama_cpp(
            facts_of(metadata),
            context_tokens=serving.context,
            concurrency=serving.sequences,
            isa=(),
            devices=1,
        ).device
        taken = sizes.kv + sizes.states + sizes.compute
        assert bounds.least / MEBIBYTE - 307 <= taken + PRINTED, serving
        assert taken - PRINTED <= bounds.most / MEBIBYTE - 614 - 1024, serving
