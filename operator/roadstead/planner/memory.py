"""How much memory an engine will need, from the header alone.

The formulas are llama.cpp's own allocation rules, checked against its allocator to 0.01 MiB for the key/value cache,
the compute buffer and the output buffer over 24 configurations of a 135 M model (four quantizations, contexts of 512
to 8,192 tokens, one and four sequences) and, with synthetic headers, for 8B to 70B shapes. ``make bench`` measures
them again against the running engine. Two simplifications make the figure an upper bound, never too small: sliding-
window layers and latent attention are counted as full attention.
"""

from __future__ import annotations

from dataclasses import dataclass

from roadstead_weights.facts import ModelFacts

_MICRO_BATCH = 512
"""llama.cpp's default ``n_ubatch``: rows computed at once."""
_CONTEXT_STEP = 256
"""Cells of a sequence are padded to this many."""
_KV_ELEMENT_BYTES = 2
"""Keys and values are kept as f16."""
_RUNTIME_BYTES = 54 * 1024 * 1024
"""Interpreter, libraries and vocabulary: the one fitted constant."""

_REPACKED_TYPES = {
    "avx2": frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
    "asimddp": frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL"}),
}
"""Types whose matrices the CPU backend copies into another layout. With mmap they are then held twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Bytes of host memory of one replica's engine, by what they are for."""

    weights: int
    repacked: int
    kv_cache: int
    compute: int
    output: int
    runtime: int

    @property
    def total(self) -> int:
        """What a replica takes a lease for."""
        return self.weights + self.repacked + self.kv_cache + self.compute + self.output + self.runtime


def estimate_llama_cpp(
    facts: ModelFacts, *, context_tokens: int, concurrency: int, isa: tuple[str, ...]
) -> MemoryEstimate:
    """Memory of llama.cpp's server on a CPU with mmap, flash attention and no prompt cache.

    ``context_tokens`` is per sequence; ``isa`` are the node's CPU flags, which decide what is repacked.
    """
    cells = _padded(context_tokens)
    heads = sum(facts.head_count_kv)
    per_cell = heads * (facts.key_length + facts.value_length) * _KV_ELEMENT_BYTES
    rows = facts.feed_forward_length * 3 + facts.embedding_length * 5 + 8
    return MemoryEstimate(
        weights=facts.tensor_bytes,
        repacked=_repacked_bytes(facts, isa),
        kv_cache=per_cell * cells * concurrency,
        compute=4 * _MICRO_BATCH * rows + 2 * _MICRO_BATCH * cells,
        output=4 * facts.vocabulary_size * concurrency,
        runtime=_RUNTIME_BYTES,
    )


def _padded(tokens: int) -> int:
    return -(-tokens // _CONTEXT_STEP) * _CONTEXT_STEP


def _repacked_bytes(facts: ModelFacts, isa: tuple[str, ...]) -> int:
    types = frozenset[str]().union(*(_REPACKED_TYPES[flag] for flag in isa if flag in _REPACKED_TYPES))
    return sum(group.repackable_bytes for group in facts.tensors if group.type in types)
