"""The tables themselves: that each row says where it is from, and that versions and capabilities are numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import pytest

from roadstead.domain.inventory import Device, Vendor
from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.planner.suitability.capability import TABLES, BuiltEngine, Path, capability
from roadstead.planner.suitability.rows import Backend, Engine, version_of
from roadstead_weights.facts import Format, ModelFacts, Scheme

CAPABILITIES = [(6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]
NVIDIA = Device(id="0", vendor=Vendor.NVIDIA, product="a card", memory_bytes=1, compute_capability=(8, 0))
DEVICES = [
    None,
    *(replace(NVIDIA, compute_capability=each) for each in CAPABILITIES),
    *(replace(NVIDIA, vendor=Vendor.AMD, architecture=each) for each in ("gfx90a", "gfx942", "gfx950", "gfx1100", "")),
    replace(NVIDIA, vendor=Vendor.INTEL),
    replace(NVIDIA, vendor=Vendor.HABANA),
]


def model(scheme: Scheme, dtype: str = "bfloat16") -> ModelFacts:
    return ModelFacts(
        format=Format.GGUF if scheme is Scheme.GGML else Format.SAFETENSORS, architecture="llama", name="m",
        quantization="", file_bytes=0, tensors=(), block_count=32, context_length=8192, embedding_length=4096,
        feed_forward_length=14336, head_count=32, head_count_kv=(8,) * 32, key_length=128, value_length=128,
        vocabulary_size=128_256, scheme=scheme, dtype=dtype, weight_bits=4, group_size=128,
    )  # fmt: skip


def build(engine: Engine, version: str) -> BuiltEngine:
    plugins = frozenset(row.plugin for row in TABLES[engine].rows)
    return BuiltEngine(engine=engine, version=version, backends=frozenset(Backend), plugins=plugins)


@pytest.mark.parametrize("engine", Engine)
def test_every_row_says_where_that_was_read(engine: Engine) -> None:
    table = TABLES[engine]

    sources = [row.source for row in table.rows]
    sources += [row.source for row in table.dtypes]
    sources += [row.source for row in table.partitions]
    assert [source for source in sources if len(source) <= len("vllm 0.33.0: ")] == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0.33.0", (0, 33, 0)), ("0.33.0rc1", (0, 33, 0)), ("0.10.1.1", (0, 10, 1, 1)), ("v0.28", (0, 28)),
        ("b11434", (11434,)), ("2026.10.11549", (2026, 10, 11549)), ("nightly", ()),
    ],
)  # fmt: skip
def test_a_version_is_the_numbers_it_begins_with(text: str, numbers: tuple[int, ...]) -> None:
    assert version_of(text) == numbers


@pytest.mark.parametrize(("version", "needs_plugin"), [("0.20.2", False), ("0.27.1", False), ("0.28.0", True)])
def test_versions_are_compared_as_numbers(version: str, needs_plugin: bool) -> None:
    bare = replace(build(Engine.VLLM, version), plugins=frozenset())

    answer = capability(model(Scheme.BITSANDBYTES), build=bare, device=NVIDIA, isa=None)

    assert (isinstance(answer, Verdict) and answer.reason is Reason.PLUGIN_MISSING) == needs_plugin


def test_of_a_version_before_the_oldest_that_was_read_nothing_is_known() -> None:
    """As text "0.9.2" is more than "0.20"."""
    answer = capability(model(Scheme.PLAIN), build=build(Engine.VLLM, "0.9.2"), device=NVIDIA, isa=None)

    assert isinstance(answer, Verdict)
    assert answer.reason is Reason.NO_FORMAT_ENGINE


def test_compute_capability_10_is_more_than_8() -> None:
    blackwell = replace(NVIDIA, compute_capability=(10, 0))

    answer = capability(model(Scheme.FP8), build=build(Engine.VLLM, "0.33.0"), device=blackwell, isa=None)

    assert isinstance(answer, Path)
    assert answer.native


@pytest.mark.parametrize(("engine", "scheme"), [*product(Engine, Scheme)])
def test_a_newer_device_is_never_refused_as_too_old_where_an_older_one_is_not(engine: Engine, scheme: Scheme) -> None:
    too_old = [
        isinstance(answer, Verdict) and answer.reason is Reason.COMPUTE_CAPABILITY_TOO_LOW
        for each in CAPABILITIES
        for answer in [
            capability(
                model(scheme, "float16"),
                build=replace(build(engine, "11434"), backends=frozenset({Backend.CUDA})),
                device=replace(NVIDIA, compute_capability=each),
                isa=None,
            )
        ]
    ]

    assert all(older or not newer for older, newer in pairwise(too_old))


@pytest.mark.parametrize(("engine", "device"), [*product(Engine, DEVICES)])
def test_every_pair_has_a_way_with_its_source_or_a_refusal_in_words(engine: Engine, device: Device | None) -> None:
    for scheme, version in product(Scheme, ("0.20.2", "0.23.0", "0.28.0", "0.33.0", "5.24.0", "b11434")):
        answer = capability(model(scheme), build=build(engine, version), device=device, isa=frozenset({"sse2"}))

        if isinstance(answer, Path):
            assert answer.source
        else:
            assert f"{engine} {version}" in answer.message


def test_a_processor_that_nobody_told_of_is_refused_nothing() -> None:
    answer = capability(model(Scheme.FP8), build=build(Engine.VLLM, "0.33.0"), device=None, isa=None)

    assert isinstance(answer, Path)
