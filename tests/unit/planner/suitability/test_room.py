"""Which devices are taken, and what is said where none has room."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roadstead.domain.inventory import Device, Inventory, Sharing, Vendor
from roadstead.domain.model import Requirements
from roadstead.domain.reasons import Reason
from roadstead.planner.memory.needs import Bounds, Needs
from roadstead.planner.suitability.assess import Assessment, Pair, assess
from roadstead.planner.suitability.capability import BuiltEngine, Path
from roadstead.planner.suitability.room import Free, held, place
from roadstead.planner.suitability.rows import Backend, Engine
from roadstead_weights.facts import Format, ModelFacts, Scheme, TensorGroup

GIB = 1024**3
CARD = Device(id="a", vendor=Vendor.NVIDIA, product="NVIDIA-L40S", memory_bytes=40 * GIB, compute_capability=(8, 9))
NOTHING = Bounds(least=0, most=0)
FACTS = ModelFacts(
    format=Format.SAFETENSORS, architecture="llama", name="m", quantization="FP8", file_bytes=0,
    tensors=(TensorGroup(type="F8_E4M3", elements=8 * GIB, bytes=9 * GIB),), block_count=32, context_length=8192,
    embedding_length=4096, feed_forward_length=14_336, head_count=32, head_count_kv=(8,) * 32, key_length=128,
    value_length=128, vocabulary_size=128_256, scheme=Scheme.PLAIN, dtype="float16", weight_bits=8,
)  # fmt: skip


def card(name: str, *, free: int, **more: object) -> Device:
    return replace(CARD, id=name, free_bytes=free * GIB, **more)  # type: ignore[arg-type]


def bounds(least: int, most: int) -> Bounds:
    return Bounds(least=least * GIB, most=most * GIB)


def names(devices: tuple[Device, ...]) -> list[str]:
    return [device.id for device in devices]


def judged(needs: Needs, *, free: Free | None = None, devices: tuple[Device, ...] = (CARD,)) -> Assessment:
    build = BuiltEngine(engine=Engine.VLLM, version="0.33.0", backends=frozenset({Backend.CUDA}))
    inventory = Inventory(devices=devices)
    pair = Pair(inventory=inventory, free=free or Free(), build=build, facts=FACTS, needs_of=lambda _: needs)
    return assess(pair, requirements=Requirements(min_tokens_per_second=20), quality=1.0)


def test_of_devices_that_surely_have_room_the_fullest_is_taken() -> None:
    """So that whole ones stay free for what needs them."""
    cards = (card("empty", free=40), card("full", free=5), card("half", free=20))

    taken, verdict = place(bounds(8, 10), cards, 1)

    assert (names(taken), verdict) == (["half"], None)


def test_between_the_bounds_the_freest_are_taken_and_it_is_said_to_be_marginal() -> None:
    taken, verdict = place(bounds(8, 30), (card("a", free=9), card("b", free=20), card("c", free=12)), 2)

    assert sorted(names(taken)) == ["b", "c"]
    assert verdict is not None
    assert verdict.reason is Reason.MARGINAL_FIT
    assert "needs 8.0 GiB to 30.0 GiB on each of 2 devices, 12.0 GiB are free" in verdict.message


@pytest.mark.parametrize(
    ("free", "shared", "least", "reason"),
    [
        (40, {}, 50, Reason.INSUFFICIENT_VRAM),
        (5, {}, 30, Reason.FREE_MEMORY_BELOW_REQUEST),
        (40, {"sharing": Sharing.MPS, "clients": 4}, 30, Reason.SHARED_DEVICE_OVERCOMMIT),
        (40, {"sharing": Sharing.MPS, "clients": 4}, 50, Reason.INSUFFICIENT_VRAM),
        (5, {"sharing": Sharing.TIME_SLICING, "clients": 4}, 30, Reason.FREE_MEMORY_BELOW_REQUEST),
    ],
)
def test_why_there_is_no_room_is_told_apart(free: int, shared: dict[str, object], least: int, reason: Reason) -> None:
    taken, verdict = place(bounds(least, least), (card("a", free=free, **shared),), 1)

    assert taken == ()
    assert verdict is not None
    assert verdict.reason is reason


def test_what_nobody_told_refuses_nothing() -> None:
    needs = Needs(device=bounds(8, 10), host=bounds(9, 9), page_cache=0, disk=GIB, shared_memory=GIB)

    assessment = judged(needs)

    assert assessment.verdict is None
    assert assessment.devices == ("a",)
    assert assessment.needs == needs
    assert assessment.tokens_per_second is None


def test_a_host_between_the_bounds_makes_the_pair_marginal_too() -> None:
    needs = Needs(device=bounds(8, 10), host=bounds(2, 6), page_cache=GIB, disk=0, shared_memory=GIB)

    assert judged(needs, free=Free(host_bytes=4 * GIB)).marginal
    assert judged(needs, free=Free(host_bytes=8 * GIB)).verdict is None
    refused = judged(needs, free=Free(host_bytes=3 * GIB))
    assert refused.verdict is not None
    assert refused.verdict.message == "needs 4.0 GiB to 8.0 GiB of the host, 3.0 GiB are free"


def test_more_devices_that_surely_do_are_better_than_fewer_that_may() -> None:
    needs = {1: bounds(30, 60), 2: bounds(15, 32)}
    pair = Pair(
        inventory=Inventory(devices=(CARD, replace(CARD, id="b"))),
        free=Free(),
        build=BuiltEngine(engine=Engine.VLLM, version="0.33.0", backends=frozenset({Backend.CUDA})),
        facts=FACTS,
        needs_of=lambda size: Needs(device=needs[size], host=NOTHING, page_cache=0, disk=0, shared_memory=0),
    )

    assessment = assess(pair, requirements=Requirements(), quality=1.0)

    assert (assessment.devices, assessment.marginal) == (("a", "b"), False)


def test_weights_that_are_decompressed_take_what_they_then_are() -> None:
    needs = Needs(device=bounds(10, 12), host=bounds(1, 2), page_cache=0, disk=0, shared_memory=0)
    path = Path(backend=Backend.CUDA, held_bits=16, source="a test")

    more = held(needs, facts=FACTS, path=path, devices=1)

    assert more.device == bounds(10 + 7, 12 + 9)
    assert more.host == needs.host
    assert held(needs, facts=FACTS, path=replace(path, held_bits=0), devices=1) == needs
    assert held(needs, facts=FACTS, path=path, devices=0).host == bounds(1 + 7, 2 + 9)
