"""From a GGUF header to ``ModelFacts``.

``gguf_header`` says what is in the file; here it is given a meaning: which keys of which architecture, what a missing
one defaults to (as llama.cpp does), which tensors a CPU backend may repack. Refuses files that are sound but cannot be
served alone: one part of a split model, adapters, projectors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import BinaryIO, Final

from roadstead_weights.errors import WeightsCode, WeightsError
from roadstead_weights.facts import Format, ModelFacts, TensorGroup
from roadstead_weights.gguf_header import (
    Header,
    LongString,
    NeedMoreBytes,
    SkippedArray,
    Tensor,
    Value,
    parse_header,
)
from roadstead_weights.gguf_types import FILE_TYPES, GUESSED_FILE_TYPE

__all__ = ["NeedMoreBytes", "facts_from_prefix", "read_facts"]

_FIRST_READ_BYTES: Final = 1024 * 1024
_ARCHITECTURE: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}", re.ASCII)
_BLOCKS_LIMIT: Final = 4_096
_VALUE_LIMIT: Final = 2**31
_NUMBERS_LIMIT: Final = 128
"""Architectures have up to 60 keys."""
_NAME_LIMIT: Final = 128
_LOOKUP_TENSORS: Final = ("token_embd.", "position_embd.", "token_types.")
"""Matrices that are indexed, not multiplied: no backend repacks them."""
_EMBEDDING: Final = "token_embd.weight"
_HEAD: Final = "output.weight"
"""In a file without it the embedding is the output head as well, and llama.cpp repacks it as that one."""
_ROWS_MULTIPLE: Final = 8
"""ggml-cpu/repack.cpp interleaves eight rows (or four) and leaves other matrices alone."""
_KEPT_FOR_PEOPLE: Final = (
    "general.basename",
    "general.finetune",
    "general.organization",
    "general.quantized_by",
    "general.size_label",
    "tokenizer.ggml.model",
    "tokenizer.ggml.pre",
)


def read_facts(file: BinaryIO, *, total: int, name: str) -> ModelFacts:
    """Facts of the open, seekable file of ``total`` bytes; errors call it ``name``. Raises ``WeightsError``.

    Reads no more than the header, rounded up to a power of two.
    """
    file.seek(0)
    prefix = bytearray()
    wanted = min(_FIRST_READ_BYTES, total)
    while True:
        while len(prefix) < wanted:
            chunk = file.read(wanted - len(prefix))
            if not chunk:
                raise WeightsError(WeightsCode.SOURCE_UNAVAILABLE, f"{name} became shorter while it was read.", name)
            prefix += chunk
        try:
            return facts_from_prefix(prefix, total=total, name=name)
        except NeedMoreBytes as more:
            wanted = min(max(more.size, 2 * len(prefix)), total)


def facts_from_prefix(prefix: bytes | bytearray, *, total: int, name: str) -> ModelFacts:
    """Facts of the file whose first bytes are ``prefix``; ``NeedMoreBytes`` if the header is longer than that."""
    view = memoryview(prefix)
    try:
        header = parse_header(view, total=total, name=name)
    finally:
        view.release()
    return _facts(_Reading(header, name), total=total)


class _Reading:
    """A header's values, asked for by key with the type that is expected."""

    def __init__(self, header: Header, name: str) -> None:
        self.header = header
        self.name = name
        self.architecture = self.text("general.architecture")
        if not _ARCHITECTURE.fullmatch(self.architecture):
            raise self.corrupt("general.architecture", "is missing or no name")

    def corrupt(self, key: str, detail: str) -> WeightsError:
        return WeightsError(
            WeightsCode.CORRUPT_HEADER,
            f"{self.name} is damaged: {key} {detail}. Fetch it again from where it was published.",
            key,
        )

    def text(self, key: str) -> str:
        """A string value, or empty when absent or unreasonably long; unprintable characters are dropped."""
        value = self.header.values.get(key, "")
        if isinstance(value, LongString):
            return ""
        if not isinstance(value, str):
            raise self.corrupt(key, "is not a string")
        return "".join(character for character in value if character.isprintable())

    def numbers(self, key: str) -> tuple[int, ...]:
        """An integer or an array of integers of this architecture (``key`` without its prefix); empty when absent."""
        full = f"{self.architecture}.{key}"
        value = self.header.values.get(full)
        if value is None:
            return ()
        items = value if isinstance(value, tuple) else (value,)
        numbers = []
        for item in items:
            if not isinstance(item, int) or not 0 <= item <= _VALUE_LIMIT:
                raise self.corrupt(full, "is not a number of a sensible size")
            numbers.append(int(item))
        return tuple(numbers)

    def all_numbers(self) -> tuple[tuple[str, int | tuple[int, ...]], ...]:
        """Whole numbers and flags of this architecture, one or one per layer; what is neither is left out."""
        prefix = f"{self.architecture}."
        found = {
            key.removeprefix(prefix): number
            for key, value in self.header.values.items()
            if key.startswith(prefix) and len(key) <= _NAME_LIMIT and (number := _whole(value)) is not None
        }
        return tuple(sorted(found.items())[:_NUMBERS_LIMIT])

    def largest(self, key: str, default: int = 0) -> int:
        """The value, or of a per-layer array the largest, which is what memory has to be there for."""
        return max(self.numbers(key), default=default)


def _whole(value: Value) -> int | tuple[int, ...] | None:
    match value:
        case bool() | int():
            return int(value) if abs(value) <= _VALUE_LIMIT else None
        case tuple() if value and all(isinstance(each, int) and abs(each) <= _VALUE_LIMIT for each in value):
            return tuple(int(each) for each in value)
        case _:
            return None


def _facts(read: _Reading, *, total: int) -> ModelFacts:
    _refuse_what_cannot_serve_alone(read)
    blocks = read.largest("block_count")
    if blocks > _BLOCKS_LIMIT:
        raise read.corrupt(f"{read.architecture}.block_count", f"is {blocks}")
    embedding = read.largest("embedding_length")
    heads = read.largest("attention.head_count")
    head_size = embedding // heads if heads else 0
    tensors = read.header.tensors
    template = read.header.values.get("tokenizer.chat_template", "")
    return ModelFacts(
        format=Format.GGUF,
        architecture=read.architecture,
        name=read.text("general.name"),
        quantization=_quantization(read),
        file_bytes=total,
        tensors=_groups(tensors),
        block_count=blocks,
        context_length=read.largest("context_length"),
        embedding_length=embedding,
        feed_forward_length=read.largest("feed_forward_length"),
        head_count=heads,
        head_count_kv=_kv_heads(read, blocks=blocks),
        key_length=read.largest("attention.key_length", head_size),
        value_length=read.largest("attention.value_length", head_size),
        vocabulary_size=_vocabulary_size(read),
        vocabulary_merges=_vocabulary_merges(read),
        sliding_window=read.largest("attention.sliding_window"),
        kv_lora_rank=read.largest("attention.kv_lora_rank"),
        numbers=read.all_numbers(),
        chat_template=isinstance(template, LongString) or (isinstance(template, str) and bool(template.strip())),
        licence=read.text("general.license"),
        extra={key: text[:200] for key in _KEPT_FOR_PEOPLE if (text := read.text(key))},
    )


def _refuse_what_cannot_serve_alone(read: _Reading) -> None:
    values = read.header.values
    parts = values.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        raise WeightsError(
            WeightsCode.INCOMPLETE_SPLIT,
            f"{read.name} is one of {parts} parts of a model; join them with llama-gguf-split --merge.",
            read.name,
        )
    kind = read.text("general.type")
    if kind not in {"", "model"}:
        raise WeightsError(
            WeightsCode.NO_FORMAT_ENGINE,
            f"{read.name} is of type {kind!r}, not a model; only whole models are served.",
            read.name,
        )


def _kv_heads(read: _Reading, *, blocks: int) -> tuple[int, ...]:
    """One number per layer; a scalar stands for all layers, and a missing one means "as many as heads"."""
    numbers = read.numbers("attention.head_count_kv") or read.numbers("attention.head_count")
    if len(numbers) == 1:
        return numbers * blocks
    if numbers and len(numbers) != blocks:
        key = f"{read.architecture}.attention.head_count_kv"
        raise read.corrupt(key, f"has {len(numbers)} values for {blocks} layers")
    return numbers


def _vocabulary_size(read: _Reading) -> int:
    """The tokenizer's length, else the width of the embedding; never a guess."""
    match read.header.values.get("tokenizer.ggml.tokens"):
        case SkippedArray(length=length):
            return length
        case _:
            pass
    for tensor in read.header.tensors:
        if tensor.name == _EMBEDDING and len(tensor.shape) == 2:
            return tensor.shape[1]
    return read.largest("vocab_size")


def _vocabulary_merges(read: _Reading) -> int:
    match read.header.values.get("tokenizer.ggml.merges"):
        case SkippedArray(length=length):
            return length
        case _:
            return 0


def _quantization(read: _Reading) -> str:
    """The file's own label; without a known one, the type that most bytes have (norms in F32 never decide)."""
    value = read.header.values.get("general.file_type")
    if isinstance(value, int) and value >= 0 and (label := FILE_TYPES.get(value & ~GUESSED_FILE_TYPE)):
        return label
    groups = _groups(read.header.tensors)
    quantized = [group for group in groups if group.type != "F32"] or list(groups)
    return max(quantized, key=lambda group: group.bytes).type if quantized else ""


def _groups(tensors: Sequence[Tensor]) -> tuple[TensorGroup, ...]:
    """Tensors by element type, sorted by its name."""
    sums: dict[str, list[int]] = {}
    tied = all(tensor.name != _HEAD for tensor in tensors)
    for tensor in tensors:
        group = sums.setdefault(tensor.type.name, [0, 0, 0, 0])
        group[0] += tensor.elements
        group[1] += tensor.bytes
        repacked = _may_be_repacked(tensor, tied=tied)
        group[2] += tensor.bytes if repacked else 0
        group[3] += tensor.bytes if repacked and tensor.name == _EMBEDDING else 0
    return tuple(
        TensorGroup(type=name, elements=elements, bytes=size, repackable_bytes=repackable, looked_up_bytes=looked_up)
        for name, (elements, size, repackable, looked_up) in sorted(sums.items())
    )


def _may_be_repacked(tensor: Tensor, *, tied: bool) -> bool:
    return (
        len(tensor.shape) == 2
        and tensor.shape[1] % _ROWS_MULTIPLE == 0
        and tensor.name.endswith(".weight")
        and (not tensor.name.startswith(_LOOKUP_TENSORS) or (tied and tensor.name == _EMBEDDING))
    )
