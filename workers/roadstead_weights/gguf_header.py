"""A bounded reader of GGUF headers: metadata and tensor table, nothing of the weights.

Model files are hostile (CVE-2025-53630, CVE-2026-27940, CVE-2026-7482), and the reference reader hangs on a 100-byte
file that announces 2^50 elements. So: every count, length and nesting is checked against a limit *and* against the
bytes that can be there before anything is allocated; every tensor must lie inside the file; work is linear in the
header, whose size is bounded. Arrays of strings (vocabularies) are stepped over, never built.

``parse_header`` is a pure function of a prefix of the file and the file's length. It raises ``NeedMoreBytes`` when the
prefix ends too early, so the same code reads a local file and HTTP ranges; callers at least double the prefix each
time, which keeps the repeated work within a factor of two.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from roadstead_weights.errors import WeightsCode, WeightsError
from roadstead_weights.gguf_types import ELEMENT_TYPES, ElementType

HEADER_LIMIT_BYTES: Final = 256 * 1024 * 1024
"""Headers seen in the wild are below 40 MiB; the tokenizer is nearly all of it."""
_KEYS_LIMIT: Final = 65_536
_TENSORS_LIMIT: Final = 65_536
_KEY_LIMIT_BYTES: Final = 65_535
_TENSOR_NAME_LIMIT_BYTES: Final = 1_024
_STRING_LIMIT_BYTES: Final = 16 * 1024 * 1024
_STRINGS_LIMIT: Final = 8_388_608
"""Elements of all string arrays together: about two seconds of stepping at worst."""
_KEPT_ARRAY_LIMIT: Final = 4_096
"""Longer numeric arrays are stepped over: per-layer values are what we read."""
_KEPT_STRING_LIMIT: Final = 1_024
_DIMENSION_LIMIT: Final = 2**40
_ELEMENTS_LIMIT: Final = 2**48
_ALIGNMENT_LIMIT: Final = 1024 * 1024
_DEFAULT_ALIGNMENT: Final = 32

_STRING: Final = 8
_ARRAY: Final = 9
_SCALARS: Final[dict[int, struct.Struct]] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


class NeedMoreBytes(Exception):
    """The prefix ends before the header does: try again with at least ``size`` bytes of the file."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes of the file are needed")
        self.size = size


@dataclass(frozen=True, slots=True)
class LongString:
    """A string that was too long to keep; only that it is there, and how long, is known."""

    length: int


@dataclass(frozen=True, slots=True)
class SkippedArray:
    """An array that was stepped over."""

    length: int


Scalar = int | float | bool
Value = Scalar | str | LongString | SkippedArray | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One row of the tensor table, checked against the file."""

    name: str
    shape: tuple[int, ...]
    """As the file has it: the first dimension is the row length."""
    type: ElementType
    elements: int
    bytes: int
    offset: int
    """From the start of the tensor data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Everything before the weights."""

    version: int
    values: dict[str, Value]
    tensors: tuple[Tensor, ...]
    data_offset: int


@dataclass(slots=True)
class _Cursor:
    """A position in the prefix; every step says what it needs before it takes it."""

    prefix: memoryview
    total: int
    name: str
    position: int = 0
    strings: int = field(default=0)

    def take(self, size: int, what: str) -> int:
        """Step over ``size`` bytes and return where they began."""
        begin = self.position
        end = begin + size
        if end > self.total:
            raise self.corrupt(f"{what} ends at byte {end}, the file after {self.total}")
        if end > HEADER_LIMIT_BYTES:
            raise self.corrupt(f"its header is larger than {HEADER_LIMIT_BYTES // 1024**2} MiB")
        if end > len(self.prefix):
            raise NeedMoreBytes(end)
        self.position = end
        return begin

    def u32(self, what: str) -> int:
        return int(_U32.unpack_from(self.prefix, self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(_U64.unpack_from(self.prefix, self.take(8, what))[0])

    def text(self, what: str, limit: int) -> str:
        size = self.u64(what)
        if size > limit:
            raise self.corrupt(f"{what} claims {size} bytes, more than {limit}")
        begin = self.take(size, what)
        try:
            return str(self.prefix[begin : begin + size], "utf-8")
        except UnicodeDecodeError:
            raise self.corrupt(f"{what} is not UTF-8") from None

    def corrupt(self, detail: str) -> WeightsError:
        return WeightsError(
            WeightsCode.CORRUPT_HEADER,
            f"{self.name} is damaged or no model: {detail}. Fetch it again from where it was published.",
            self.name,
        )


def parse_header(prefix: bytes | bytearray | memoryview, *, total: int, name: str) -> Header:
    """The header of the file whose first bytes are ``prefix`` and whose length is ``total``.

    ``name`` is what errors call the file. Raises ``NeedMoreBytes`` or ``WeightsError``.
    """
    cursor = _Cursor(memoryview(prefix), total, name)
    version = _magic_and_version(cursor)
    tensor_count = cursor.u64("the number of tensors")
    key_count = cursor.u64("the number of keys")
    if tensor_count > _TENSORS_LIMIT or key_count > _KEYS_LIMIT:
        raise cursor.corrupt(f"it claims {tensor_count} tensors and {key_count} keys")
    values: dict[str, Value] = {}
    for _ in range(key_count):
        key = cursor.text("a key", _KEY_LIMIT_BYTES)
        if key in values:
            raise cursor.corrupt(f"the key {key[:80]!r} occurs twice")
        values[key] = _value(cursor, key[:80])
    tensors = tuple(_tensor(cursor) for _ in range(tensor_count))
    alignment = _alignment(cursor, values)
    data_offset = -(-cursor.position // alignment) * alignment
    _check_layout(cursor, tensors, alignment=alignment, data_offset=data_offset)
    return Header(version=version, values=values, tensors=tensors, data_offset=data_offset)


def _magic_and_version(cursor: _Cursor) -> int:
    if cursor.total < 24:
        raise cursor.corrupt(f"it has {cursor.total} bytes")
    if len(cursor.prefix) < 24:
        raise NeedMoreBytes(24)
    refuse_other_formats(bytes(cursor.prefix[:16]), name=cursor.name)
    cursor.take(4, "the magic")
    version = cursor.u32("the version")
    if version in {2, 3}:
        return version
    if int.from_bytes(version.to_bytes(4, "little"), "big") in {1, 2, 3}:
        raise WeightsError(
            WeightsCode.UNSUPPORTED_VERSION,
            f"{cursor.name} is a big-endian GGUF file; convert it with gguf_convert_endian.",
            cursor.name,
        )
    raise WeightsError(
        WeightsCode.UNSUPPORTED_VERSION,
        f"{cursor.name} is GGUF version {version}; versions 2 and 3 are served. Convert it again with today's tools.",
        cursor.name,
    )


def refuse_other_formats(begin: bytes, *, name: str) -> None:
    """Say what a file that is not GGUF is, from its first 16 bytes."""
    if begin[:4] == b"GGUF":
        return
    if begin[:4] == b"PK\x03\x04" or (begin[:1] == b"\x80" and begin[1:2] in b"\x01\x02\x03\x04\x05"):
        raise WeightsError(
            WeightsCode.UNSAFE_FORMAT,
            f"{name} is a PyTorch pickle or an archive: loading one can run its author's code. Publish it as GGUF.",
            name,
        )
    if begin[8:9] == b"{" and int.from_bytes(begin[:8], "little") < 2**32:
        raise WeightsError(
            WeightsCode.NO_FORMAT_ENGINE,
            f"{name} is a safetensors file, which no engine of this version serves. Use a GGUF of the same model.",
            name,
        )
    raise WeightsError(
        WeightsCode.CORRUPT_HEADER, f"{name} does not begin as a GGUF file: {begin[:4]!r} instead of b'GGUF'.", name
    )


def _value(cursor: _Cursor, key: str) -> Value:
    kind = cursor.u32(f"the type of {key}")
    if kind == _STRING:
        return _string_value(cursor, key)
    if kind == _ARRAY:
        return _array_value(cursor, key)
    scalar = _SCALARS.get(kind)
    if scalar is None:
        raise cursor.corrupt(f"{key} has the unknown type {kind}")
    value: Scalar = scalar.unpack_from(cursor.prefix, cursor.take(scalar.size, key))[0]
    return value


def _string_value(cursor: _Cursor, key: str) -> Value:
    size = cursor.u64(key)
    if size > _STRING_LIMIT_BYTES:
        raise cursor.corrupt(f"{key} claims {size} bytes, more than {_STRING_LIMIT_BYTES}")
    begin = cursor.take(size, key)
    if size > _KEPT_STRING_LIMIT:
        return LongString(size)
    return str(cursor.prefix[begin : begin + size], "utf-8", "replace")


def _array_value(cursor: _Cursor, key: str) -> Value:
    kind = cursor.u32(f"the element type of {key}")
    count = cursor.u64(f"the length of {key}")
    if kind == _ARRAY:
        raise cursor.corrupt(f"{key} is an array of arrays")
    if kind == _STRING:
        _skip_strings(cursor, key, count)
        return SkippedArray(count)
    scalar = _SCALARS.get(kind)
    if scalar is None:
        raise cursor.corrupt(f"{key} has the unknown element type {kind}")
    begin = cursor.take(count * scalar.size, key)
    if count > _KEPT_ARRAY_LIMIT:
        return SkippedArray(count)
    return tuple(item[0] for item in scalar.iter_unpack(cursor.prefix[begin : cursor.position]))


def _skip_strings(cursor: _Cursor, key: str, count: int) -> None:
    """Step over ``count`` strings; the loop is the hot path, so it checks bounds itself and keeps locals."""
    cursor.strings += count
    if cursor.strings > _STRINGS_LIMIT or count * 8 > cursor.total - cursor.position:
        raise cursor.corrupt(f"{key} claims {count} strings")
    prefix, position, end = cursor.prefix, cursor.position, len(cursor.prefix)
    unpack = _U64.unpack_from
    for done in range(count):
        if position + 8 <= end:
            size = unpack(prefix, position)[0]
            if size <= _STRING_LIMIT_BYTES and position + 8 + size <= end:
                position += 8 + size
                continue
        cursor.position = position
        _stop_inside_strings(cursor, key, remaining=count - done)
    cursor.position = position


def _stop_inside_strings(cursor: _Cursor, key: str, *, remaining: int) -> None:
    """Raise what is wrong with the next string: bytes are missing, or it is too long."""
    size = cursor.u64(key)
    if size > _STRING_LIMIT_BYTES:
        raise cursor.corrupt(f"a string of {key} claims {size} bytes")
    # Ask for room for the other strings' lengths as well: fewer rounds, and an impossible count is found out at once.
    cursor.take(size, key)
    cursor.take((remaining - 1) * 8, key)


def _tensor(cursor: _Cursor) -> Tensor:
    name = cursor.text("a tensor's name", _TENSOR_NAME_LIMIT_BYTES)
    shown = name[:80]
    dimensions = cursor.u32(f"the shape of {shown}")
    if not 1 <= dimensions <= 4:
        raise cursor.corrupt(f"tensor {shown!r} has {dimensions} dimensions")
    shape = tuple(cursor.u64(f"the shape of {shown}") for _ in range(dimensions))
    elements = 1
    for length in shape:
        elements *= length
        if not 1 <= length <= _DIMENSION_LIMIT or elements > _ELEMENTS_LIMIT:
            raise cursor.corrupt(f"tensor {shown!r} has the shape {shape}")
    kind = cursor.u32(f"the type of {shown}")
    offset = cursor.u64(f"the offset of {shown}")
    element = ELEMENT_TYPES.get(kind)
    if element is None:
        raise WeightsError(
            WeightsCode.UNSUPPORTED_VERSION,
            f"{cursor.name} has a tensor of element type {kind}, which this version of Roadstead does not know.",
            shown,
        )
    if shape[0] % element.block_elements:
        raise cursor.corrupt(f"rows of {shown!r} ({shape[0]}) do not divide into blocks of {element.name}")
    size = elements // element.block_elements * element.block_bytes
    return Tensor(name=name, shape=shape, type=element, elements=elements, bytes=size, offset=offset)


def _alignment(cursor: _Cursor, values: dict[str, Value]) -> int:
    alignment = values.get("general.alignment", _DEFAULT_ALIGNMENT)
    if (
        not isinstance(alignment, int)
        or isinstance(alignment, bool)
        or not 1 <= alignment <= _ALIGNMENT_LIMIT
        or alignment & (alignment - 1)
    ):
        raise cursor.corrupt("general.alignment is no power of two")
    return alignment


def _check_layout(cursor: _Cursor, tensors: tuple[Tensor, ...], *, alignment: int, data_offset: int) -> None:
    """Every tensor inside the file, aligned, named once, overlapping none."""
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise cursor.corrupt("two tensors have the same name")
    room = cursor.total - data_offset
    end = 0
    for tensor in sorted(tensors, key=lambda each: each.offset):
        shown = tensor.name[:80]
        if tensor.offset % alignment:
            raise cursor.corrupt(f"tensor {shown!r} is not aligned to {alignment} bytes")
        if tensor.offset < end:
            raise cursor.corrupt(f"tensor {shown!r} overlaps another")
        end = tensor.offset + tensor.bytes
        if end > room:
            raise cursor.corrupt(f"tensor {shown!r} ends {end - room} bytes after the file")
