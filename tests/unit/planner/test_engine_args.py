"""What a spec asks of the engine: the words it is told, and the memory that follows."""

from __future__ import annotations

import pytest

from roadstead.domain.model import CacheType, Requirements, VariantSpec
from roadstead.planner.engine_args import cache_types, engine_args
from roadstead.planner.memory.llama_cpp import CACHE_BYTES
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact

FILES = {"file:///a.gguf": artifact("a", mebibytes=100)}
VARIANT = VariantSpec(name="q8", source="file:///a.gguf")


@pytest.mark.parametrize("cache", CacheType)
def test_what_the_engine_is_told_says_what_the_cache_is_kept_in(cache: CacheType) -> None:
    keys, values = cache_types(engine_args(Requirements(cache_type=cache)))

    assert keys == values == cache.lower()
    assert keys in CACHE_BYTES


def test_the_usual_is_not_asked_for_so_that_older_contents_stay_what_they_are() -> None:
    assert engine_args(Requirements()) == ()
    assert cache_types(("--something", "--else")) == ("f16", "f16")


async def test_a_smaller_cache_is_another_content_that_needs_less_memory() -> None:
    fleet = MemoryFleet(nodes={"n0": MemoryNode(budget=2000 * MIB, files=dict(FILES))})
    key = fleet.apply("assistant", VARIANT, context_tokens=8192)
    await fleet.settle()
    (before,) = fleet.applications.values()

    fleet.apply("assistant", VARIANT, context_tokens=8192, cache_type=CacheType.Q8_0)
    await fleet.settle()

    (after,) = fleet.applications.values()
    assert fleet.release_number(key) == 2
    assert after.slot.content.engine_args == ("--cache-type-k", "q8_0", "--cache-type-v", "q8_0")
    saved = (before.slot.memory_bytes - after.slot.memory_bytes) / MIB
    assert saved == pytest.approx(180 - 95.6, abs=0.2)  # llama.cpp: 180.00 and 95.62 MiB
