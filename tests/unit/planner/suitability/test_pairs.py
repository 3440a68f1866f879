"""Real models on real nodes: what is to come of each pair, from public sources, and what our tables say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from roadstead.domain.inventory import Device, Inventory, Sharing, Vendor
from roadstead.domain.model import Requirements
from roadstead.domain.reasons import Reason
from roadstead.planner.memory.needs import Bounds, Needs
from roadstead.planner.suitability.assess import Assessment, Pair, assess
from roadstead.planner.suitability.capability import BuiltEngine
from roadstead.planner.suitability.room import Free
from roadstead.planner.suitability.rows import Backend, Engine
from roadstead_weights.facts import Format, ModelFacts, Scheme, TensorGroup

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB
AT_LEAST_TWICE: Final = {
    "capability": (
        Reason.NO_FORMAT_ENGINE, Reason.COMPUTE_CAPABILITY_TOO_LOW, Reason.DTYPE_UNSUPPORTED, Reason.PLUGIN_MISSING,
        Reason.VENDOR_UNSUPPORTED, Reason.ISA_MISSING,
    ),
    "room": (
        Reason.INSUFFICIENT_VRAM, Reason.INSUFFICIENT_RAM, Reason.INSUFFICIENT_DISK, Reason.INSUFFICIENT_CPU,
        Reason.FREE_MEMORY_BELOW_REQUEST, Reason.MARGINAL_FIT,
    ),
    "shape": (
        Reason.TP_NOT_DIVISIBLE, Reason.GROUP_SIZE_NOT_DIVISIBLE, Reason.MIG_NO_TENSOR_PARALLEL,
        Reason.SHARED_DEVICE_OVERCOMMIT, Reason.AMBIGUOUS_INVENTORY,
    ),
    "service level": (Reason.SPEED_BELOW_REQUIREMENT, Reason.QUALITY_BELOW_FLOOR),
}  # fmt: skip
FORMATS: Final = {
    "BF16": (Scheme.PLAIN, 16.0, 0, 0), "FP16": (Scheme.PLAIN, 16.0, 0, 0), "GPTQ": (Scheme.GPTQ, 4.156, 4, 128),
    "GPTQ-g64": (Scheme.GPTQ, 4.313, 4, 64), "GPTQ-3bit": (Scheme.GPTQ, 3.148, 3, 128),
    "AWQ": (Scheme.AWQ, 4.156, 4, 128), "FP8": (Scheme.FP8, 8.0, 8, 0), "FP8-block": (Scheme.FP8, 8.002, 8, 128),
    "INT8": (Scheme.INT8, 8.0, 8, -1), "NVFP4": (Scheme.NVFP4, 4.5, 4, 16), "MXFP4": (Scheme.MXFP4, 4.25, 4, 32),
    "BitsAndBytes": (Scheme.BITSANDBYTES, 4.127, 4, 64), "Q8_0": (Scheme.GGML, 8.5, 0, 0),
    "FP16-GGUF": (Scheme.GGML, 16.0, 0, 0),
    "Q4_K_M": (Scheme.GGML, 4.85, 0, 0), "Q2_K": (Scheme.GGML, 3.16, 0, 0),
}  # fmt: skip
"""Scheme, bits a weight of the linear layers with their scales, bits and group size as the config has them."""


def rows(name: str) -> Any:  # noqa: ANN401 - what a file holds, its reader knows
    return yaml.safe_load((Path(__file__).parent / f"{name}.yaml").read_text())


NODES: Final[dict[str, dict[str, Any]]] = rows("nodes")
MODELS: Final[dict[str, dict[str, Any]]] = rows("models")
BUILDS: Final[dict[str, dict[str, Any]]] = rows("builds")
PAIRS: Final[list[dict[str, Any]]] = rows("pairs")


def inventory(node: dict[str, Any], *, held: int) -> Inventory:
    devices = [
        Device(
            id=f"{kind['product']}-{number}",
            vendor=Vendor(kind.get("vendor", "NVIDIA")),
            product=kind["product"],
            memory_bytes=kind["mib"] * MIB,
            free_bytes=kind["mib"] * MIB - held * GIB,
            compute_capability=tuple(kind["capability"]) if "capability" in kind else None,
            architecture=kind.get("architecture", ""),
            mig_profile=kind.get("mig", ""),
            sharing=Sharing(kind.get("sharing", "None")),
            clients=kind.get("counted", 1),
        )
        for kind in node.get("devices", ())
        for number in range(kind.get("number", 1))
    ]
    return Inventory(
        cores=node.get("cores", 32),
        memory_bytes=node.get("ram", 256) * GIB,
        isa=frozenset(node.get("isa", ("sse2", "avx2", "avx512f"))),
        devices=tuple(devices),
        ambiguities=tuple(node.get("ambiguities", ())),
    )


def built(build: dict[str, Any]) -> BuiltEngine:
    return BuiltEngine(
        engine=Engine(build["engine"]),
        version=build["version"],
        backends=frozenset(map(Backend, build["backends"])),
        capability=tuple(build.get("capability", (0, 0))),
        isa=frozenset(build.get("isa", ())),
        plugins=frozenset(build.get("plugins", ())),
        dtype=build.get("dtype", ""),
    )


def facts(model: dict[str, Any], kind: str, dtype: str | None = None) -> ModelFacts:
    """Embeddings and output head stay in 16 bits where a GGUF does not compress them too."""
    scheme, bits, config_bits, group = FORMATS[kind]
    looked_up = model["vocabulary"] * model["hidden"] * (1 if model.get("tied") else 2)
    linear = model["parameters"] - looked_up
    gguf = scheme is Scheme.GGML
    plain = {"BF16": "bfloat16", "FP16": "float16"}.get(kind, model["dtype"])
    return ModelFacts(
        format=Format.GGUF if gguf else Format.SAFETENSORS,
        architecture=model["architecture"],
        name=model["source"],
        quantization=kind,
        file_bytes=0,
        tensors=(
            TensorGroup(type=kind, elements=linear, bytes=int(linear * bits / 8)),
            TensorGroup(type="lookup", elements=looked_up, bytes=int(looked_up * (bits / 8 if gguf else 2))),
        ),
        block_count=model["blocks"],
        context_length=131_072,
        embedding_length=model["hidden"],
        feed_forward_length=model["width"],
        head_count=model["heads"],
        head_count_kv=(model["kept"],) * model["blocks"],
        key_length=model["head"],
        value_length=model["head"],
        vocabulary_size=model["vocabulary"],
        numbers=(("expert_feed_forward_length", model["expert"]),) if "expert" in model else (),
        scheme=scheme,
        dtype="" if gguf else dtype or plain,
        weight_bits=config_bits,
        group_size=group,
    )


def needs(model: ModelFacts, engine: Engine, requirements: Requirements, devices: int) -> Needs:
    """KAITO's constants for vLLM (model-sku-calculation.md), llama.cpp's margin for a device (1 GiB); both simplified.

    What is tested here is what follows from needs, not what they are.
    """
    ways = max(1, devices)
    weights, kept = model.tensor_bytes / ways, model.head_count_kv[0]
    token = 2 * model.block_count * max(1, kept // ways) * model.key_length * 2
    one = token * requirements.context_tokens
    every = one * requirements.concurrency
    if engine is Engine.LLAMA_CPP:
        device = Bounds(least=int(weights + every + 0.3 * GIB), most=int(weights + every + GIB))
        host = Bounds(least=GIB // 4, most=GIB // 2)
        mapped = Bounds(least=every + GIB // 8, most=every + GIB // 4)
    else:
        device = Bounds(least=int(weights + one + 0.6 * GIB), most=int(1.071 * weights + every + 2.3 * GIB))
        host = Bounds(least=2 * GIB, most=4 * GIB)
        mapped = Bounds(least=device.least + GIB, most=device.most + GIB)
    on_processor = devices == 0
    return Needs(
        device=Bounds(least=0, most=0) if on_processor else device,
        host=mapped if on_processor else host,
        page_cache=model.tensor_bytes if on_processor and engine is Engine.LLAMA_CPP else 0,
        disk=model.tensor_bytes,
        shared_memory=GIB // 16,
    )


def judged(row: dict[str, Any]) -> Assessment:
    node, build = NODES[row["node"]], built(BUILDS[row["build"]])
    model = facts(MODELS[row["model"]], row["as"], row.get("dtype"))
    requirements = Requirements(
        context_tokens=row.get("context", 4096),
        concurrency=row.get("concurrency", 1),
        min_tokens_per_second=row.get("min_speed"),
        max_seconds_to_first_token=row.get("max_wait"),
        min_quality=row.get("min_quality"),
    )
    has = inventory(node, held=row.get("held", 0))
    free = Free(
        host_bytes=row["ram"] * GIB if "ram" in row else has.memory_bytes,
        disk_bytes=row["disk"] * GIB if "disk" in row else None,
        cores=row.get("cores", has.cores),
    )
    pair = Pair(
        inventory=has,
        free=free,
        build=build,
        facts=model,
        needs_of=lambda devices: needs(model, build.engine, requirements, devices),
    )
    return assess(
        pair,
        requirements=requirements,
        quality=row.get("quality", 1.0),
        tokens_per_second=row.get("speed"),
        seconds_to_first_token=row.get("wait"),
    )


def name(row: dict[str, Any]) -> str:
    return f"{row['model']} in {row['as']} by {row['build']} on {row['node']}: {row['expect']}"


@pytest.mark.parametrize("row", PAIRS, ids=name)
def test_a_pair_is_what_the_sources_say(row: dict[str, Any]) -> None:
    assessment = judged(row)

    words = assessment.verdict.message if assessment.verdict else assessment.path.slow if assessment.path else ""
    match row["expect"]:
        case "native" | "slow" as way:
            assert assessment.verdict is None, words
            assert assessment.path is not None
            assert assessment.path.native == (way == "native"), words
        case "marginal":
            assert assessment.marginal, words
            assert assessment.accepted
        case code:
            assert not assessment.accepted, words
            assert assessment.verdict is not None
            assert assessment.verdict.reason == code, words
    assert row.get("says", "") in words
    if "devices" in row:
        assert len(assessment.devices) == row["devices"]


@pytest.mark.parametrize(
    ("section", "reason"), [(key, code) for key, codes in AT_LEAST_TWICE.items() for code in codes]
)
def test_every_reason_is_reached_by_at_least_two_pairs(section: str, reason: Reason) -> None:
    expected = Counter("MarginalFit" if row["expect"] == "marginal" else row["expect"] for row in PAIRS)

    assert expected[reason] >= 2, f"{section}: {reason}"


def test_every_pair_says_where_its_verdict_is_from() -> None:
    assert [name(row) for row in PAIRS if not row.get("source")] == []
    assert len(PAIRS) >= 60
