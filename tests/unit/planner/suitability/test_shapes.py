"""On how many devices a model can be spread: heads, groups, tiles."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roadstead.domain.inventory import Device, Sharing, Vendor
from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.planner.suitability.capability import BuiltEngine, Path
from roadstead.planner.suitability.rows import Backend, Engine
from roadstead.planner.suitability.shapes import alike, shape, sizes
from roadstead_weights.facts import Format, ModelFacts, Scheme

CARD = Device(id="0", vendor=Vendor.NVIDIA, product="NVIDIA-L40S", memory_bytes=1, compute_capability=(8, 9))
CUDA = Path(backend=Backend.CUDA, source="a test")
QWEN2_72B = ModelFacts(
    format=Format.SAFETENSORS, architecture="qwen2", name="Qwen2-72B", quantization="GPTQ", file_bytes=0, tensors=(),
    block_count=80, context_length=32_768, embedding_length=8192, feed_forward_length=29_696, head_count=64,
    head_count_kv=(8,) * 80, key_length=128, value_length=128, vocabulary_size=152_064, scheme=Scheme.GPTQ,
    dtype="float16", weight_bits=4, group_size=128,
)  # fmt: skip


def on(facts: ModelFacts, size: int, *, version: str = "0.33.0", engine: Engine = Engine.VLLM) -> Path | Verdict:
    build = BuiltEngine(engine=engine, version=version, backends=frozenset({Backend.CUDA}))
    return shape(facts, build=build, path=CUDA, devices=(CARD,) * max(1, size), size=size)


@pytest.mark.parametrize(
    ("width", "size", "fits"),
    [
        (27_648, 8, True),
        (29_568, 1, True),
        (29_568, 2, False),
        (29_568, 4, False),
        (29_696, 2, True),
        (29_696, 8, True),
    ],
)
def test_groups_of_weights_are_never_cut(width: int, size: int, fits: bool) -> None:
    answer = on(replace(QWEN2_72B, feed_forward_length=width), size)

    assert isinstance(answer, Path) == fits
    assert fits or (isinstance(answer, Verdict) and answer.reason is Reason.GROUP_SIZE_NOT_DIVISIBLE)


@pytest.mark.parametrize(("version", "fits"), [("0.23.0", False), ("0.24.0", True), ("0.33.0", True)])
def test_what_does_not_suit_the_kernels_tiles_is_refused_until_vllm_fills_it_up(version: str, fits: bool) -> None:
    answer = on(replace(QWEN2_72B, group_size=64, feed_forward_length=29_632), 1, version=version)

    assert isinstance(answer, Path) == fits
    assert not isinstance(answer, Path) or "filled up with zeros" in answer.slow


@pytest.mark.parametrize(
    ("heads", "kept", "size", "fits"),
    [(64, 8, 8, True), (64, 8, 16, True), (40, 10, 2, True), (40, 10, 4, False), (28, 4, 4, True), (28, 4, 8, False),
     (71, 1, 2, False), (32, 1, 8, True), (48, 6, 4, False),
     (48, 6, 16, False)],
)  # fmt: skip
def test_heads_are_dealt_out_evenly_and_too_few_of_keys_are_copied(
    heads: int, kept: int, size: int, fits: bool
) -> None:
    plain = replace(QWEN2_72B, scheme=Scheme.PLAIN, group_size=0, head_count=heads, head_count_kv=(kept,) * 80)

    answer = on(plain, size)

    assert isinstance(answer, Path) == fits
    assert fits or (isinstance(answer, Verdict) and answer.reason is Reason.TP_NOT_DIVISIBLE)


def test_a_latent_attention_has_no_heads_of_keys_to_deal_out() -> None:
    latent = replace(QWEN2_72B, scheme=Scheme.PLAIN, head_count=128, head_count_kv=(3,) * 80, kv_lora_rank=512)

    assert isinstance(on(latent, 8), Path)


def test_llama_cpp_deals_out_layers_whatever_the_heads() -> None:
    gguf = replace(QWEN2_72B, format=Format.GGUF, scheme=Scheme.GGML, head_count=71, block_count=8)

    assert isinstance(on(gguf, 8, engine=Engine.LLAMA_CPP), Path)
    assert isinstance(on(gguf, 16, engine=Engine.LLAMA_CPP), Verdict)


def test_devices_of_another_kind_are_another_option() -> None:
    other = replace(CARD, id="1", product="NVIDIA-L4")
    slice_of_one = replace(CARD, id="2", mig_profile="1g.10gb")

    assert alike((CARD, other, replace(CARD, id="3"), slice_of_one)) == (
        (CARD, replace(CARD, id="3")),
        (other,),
        (slice_of_one,),
    )


@pytest.mark.parametrize(("devices", "expected"), [(1, (1,)), (3, (1, 2)), (8, (1, 2, 4, 8)), (20, (1, 2, 4, 8, 16))])
def test_only_powers_of_two_are_tried(devices: int, expected: tuple[int, ...]) -> None:
    assert sizes((CARD,) * devices) == expected


def test_a_shared_device_counts_as_often_as_the_cluster_hands_it_out() -> None:
    """Else nobody would be told why four "GPUs" are not enough."""
    assert sizes((replace(CARD, sharing=Sharing.TIME_SLICING, clients=4),)) == (1, 2, 4)
