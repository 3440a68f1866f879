"""Headers made to crash, hang or overrun a reader: each is refused with a code, at once."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadstead_weights.errors import WeightsCode, WeightsError
from roadstead_weights.gguf import read_facts
from tests.fixtures.gguf_files import ARRAY, STRING, U32, U64, Gguf, key, llama_keys, string, tensor, text, u32

CORRUPT = WeightsCode.CORRUPT_HEADER
UNSUPPORTED = WeightsCode.UNSUPPORTED_VERSION


def with_keys(*extra: bytes) -> bytes:
    return Gguf(keys=[*llama_keys(), *extra]).bytes()


def with_tensors(*tensors: bytes) -> bytes:
    return Gguf(tensors=list(tensors)).bytes()


def array(kind: int, count: int, payload: bytes = b"") -> bytes:
    return key("general.tags", ARRAY, struct.pack("<IQ", kind, count) + payload)


HOSTILE = {
    "an empty file": (b"", CORRUPT),
    "a few bytes": (b"GGUF\x03\0\0\0", CORRUPT),
    "another magic": (Gguf(magic=b"GGML").bytes(), CORRUPT),
    "version 1": (Gguf(version=1).bytes(), UNSUPPORTED),
    "version 4": (Gguf(version=4).bytes(), UNSUPPORTED),
    "big-endian": (Gguf(version=3 << 24).bytes(), UNSUPPORTED),
    "2^63 tensors": (Gguf(tensor_count=2**63).bytes(), CORRUPT),
    "2^64 - 1 keys": (Gguf(key_count=2**64 - 1).bytes(), CORRUPT),
    "more keys than there are": (Gguf(key_count=60_000).bytes(), CORRUPT),
    "a key of 2^60 bytes": (Gguf(keys=[struct.pack("<Q", 2**60)]).bytes(), CORRUPT),
    "a string of 2^63 bytes": (with_keys(key("x", STRING, struct.pack("<Q", 2**63))), CORRUPT),
    "a string past the end": (with_keys(key("x", STRING, struct.pack("<Q", 10_000_000))), CORRUPT),
    "an array of 2^50 strings": (with_keys(array(STRING, 2**50)), CORRUPT),
    "an array of 2^50 numbers": (with_keys(array(U64, 2**50)), CORRUPT),
    "an array of 2^64 - 1 numbers": (with_keys(array(U64, 2**64 - 1)), CORRUPT),
    "a huge string inside an array": (with_keys(array(STRING, 1, struct.pack("<Q", 2**62))), CORRUPT),
    "an array of arrays": (with_keys(array(ARRAY, 1, struct.pack("<IQ", U32, 0))), CORRUPT),
    "an array of arrays of arrays": (with_keys(array(ARRAY, 2**40, struct.pack("<IQ", ARRAY, 2**40) * 9)), CORRUPT),
    "an unknown type of value": (with_keys(key("x", 77, b"")), CORRUPT),
    "an unknown type of element": (with_keys(array(77, 1)), CORRUPT),
    "a key twice": (with_keys(string("general.name", "again")), CORRUPT),
    "a key that is not UTF-8": (with_keys(text(b"\xff\xfe") + struct.pack("<II", U32, 1)), CORRUPT),
    "no architecture": (Gguf(keys=llama_keys()[1:]).bytes(), CORRUPT),
    "an architecture with a path": (Gguf(keys=[string("general.architecture", "../x")]).bytes(), CORRUPT),
    "an architecture that is a number": (Gguf(keys=[u32("general.architecture", 1)]).bytes(), CORRUPT),
    "4 billion layers": (
        Gguf(keys=[string("general.architecture", "a"), u32("a.block_count", 2**32 - 1)]).bytes(), CORRUPT),
    "a million layers": (
        Gguf(keys=[string("general.architecture", "a"), u32("a.block_count", 10**6)]).bytes(), CORRUPT),
    "an alignment of 0": (with_keys(u32("general.alignment", 0)), CORRUPT),
    "an alignment of 3": (with_keys(u32("general.alignment", 3)), CORRUPT),
    "an alignment of 2 GiB": (with_keys(u32("general.alignment", 2**31)), CORRUPT),
    "a tensor past the end": (with_tensors(tensor("a.weight", (64, 64), 2, 4096)), CORRUPT),
    "an offset of 2^63": (with_tensors(tensor("a.weight", (64,), 0, 2**63)), CORRUPT),
    "an offset that is not aligned": (with_tensors(tensor("a.weight", (64,), 0, 16)), CORRUPT),
    "tensors that overlap": (
        with_tensors(tensor("a.weight", (64,), 0, 0), tensor("b.weight", (64,), 0, 128)), CORRUPT),
    "two tensors of one name": (
        with_tensors(tensor("a.weight", (64,), 0, 0), tensor("a.weight", (64,), 0, 256)), CORRUPT),
    "a tensor without dimensions": (with_tensors(tensor("a.weight", (), 0, 0)), CORRUPT),
    "a tensor of 1,000 dimensions": (with_tensors(tensor("a.weight", (1,) * 1000, 0, 0)), CORRUPT),
    "a dimension of 0": (with_tensors(tensor("a.weight", (0, 64), 0, 0)), CORRUPT),
    "a product that overflows 64 bits": (with_tensors(tensor("a.weight", (2**33, 2**33), 0, 0)), CORRUPT),
    "a row that is no whole block": (with_tensors(tensor("a.weight", (33,), 2, 0)), CORRUPT),
    "an unknown element type": (with_tensors(tensor("a.weight", (64,), 99, 0)), UNSUPPORTED),
    "a removed element type": (with_tensors(tensor("a.weight", (64,), 4, 0)), UNSUPPORTED),
    "a zip of pickles": (b"PK\x03\x04" + b"\0" * 60, WeightsCode.UNSAFE_FORMAT),
    "a legacy pickle": (b"\x80\x02\x8a\x0al\xfc\x9cF" + b"\0" * 60, WeightsCode.UNSAFE_FORMAT),
    "safetensors": (struct.pack("<Q", 40) + b'{"a":{}}' + b" " * 60, WeightsCode.NO_FORMAT_ENGINE),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused_with_a_code(name: str) -> None:
    content, code = HOSTILE[name]
    with pytest.raises(WeightsError) as caught:
        read_facts(io.BytesIO(content), total=len(content), name="evil.gguf")
    assert caught.value.code is code
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("kept", range(0, len(Gguf().header()), 7))
def test_a_truncated_header_is_refused_wherever_it_ends(kept: int) -> None:
    content = Gguf().bytes()[:kept]
    with pytest.raises(WeightsError):
        read_facts(io.BytesIO(content), total=len(content), name="short.gguf")


def test_a_file_that_shrinks_while_it_is_read_is_unavailable_not_corrupt() -> None:
    content = Gguf().bytes()
    with pytest.raises(WeightsError) as caught:
        read_facts(io.BytesIO(content[:100]), total=len(content), name="model.gguf")
    assert caught.value.code is WeightsCode.SOURCE_UNAVAILABLE


def test_impossible_counts_cost_no_memory() -> None:
    content = with_keys(array(U64, 2**50))
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError):
            read_facts(io.BytesIO(content), total=2**60, name="sparse.gguf")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1024 * 1024


@settings(max_examples=300, deadline=None)
@given(
    flips=st.lists(st.tuples(st.integers(0, len(Gguf().header()) - 1), st.integers(0, 255)), max_size=12),
    cut=st.integers(0, len(Gguf().bytes())),
)
def test_no_mutation_of_a_header_does_anything_but_parse_or_refuse(flips: list[tuple[int, int]], cut: int) -> None:
    content = bytearray(Gguf().bytes())
    for position, value in flips:
        content[position] = value
    for total in (len(content), cut):
        begun = time.process_time()
        try:
            facts = read_facts(io.BytesIO(bytes(content[:total])), total=total, name="mutant.gguf")
        except WeightsError:
            pass
        else:
            assert 0 <= facts.tensor_bytes <= total
        assert time.process_time() - begun < 1.0


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=400), counts=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)))
def test_no_bytes_after_the_magic_do_anything_but_parse_or_refuse(content: bytes, counts: tuple[int, int]) -> None:
    whole = b"GGUF" + struct.pack("<IQQ", 3, *counts) + content
    with pytest.raises(WeightsError):
        read_facts(io.BytesIO(whole), total=len(whole), name="noise.gguf")
