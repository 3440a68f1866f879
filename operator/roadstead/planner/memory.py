"""How much memory an engine will need, from the header alone: the resident set it reaches once it has worked.

The formulas are llama.cpp's own allocation rules, checked against its allocator to 0.01 MiB for the key/value cache,
the compute buffer and the output buffer over 24 configurations of a 135 M model (four quantizations, contexts of 512
to 8,192 tokens, one and four sequences) and, with synthetic headers, for 8B to 70B shapes. Two simplifications make the
figure an upper bound, never too small: sliding-window layers and latent attention are counted as full attention.

What the allocator does not tell was fitted to the resident set of the wheel's server after a prompt on every sequence
(``python -m tests.bench.memory``; docs/reference/performance.md has the table):

* A tokenizer costs by its size. The same model with 98,304 further tokens held 19.4 MiB more than its tensors, and with
  98,304 merge rules on top another 17 (14 with four sequences): for a vocabulary like Llama 3's that is 59 MiB more
  than for SmolLM2's.
* A sequence costs its sampler's candidates: 1.0 to 1.5 MiB with 49,152 tokens beyond cache and output.
* The rest is the process: libraries 20 MiB, interpreter and heap. ``llama-server`` has no interpreter and needs less.
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
_PROCESS_BYTES = int(34.5 * 1024 * 1024)
_TOKEN_BYTES = 210
"""Per entry of the vocabulary."""
_MERGE_BYTES = 200
"""Per merge rule of a byte-pair tokenizer."""
_CANDIDATE_BYTES = 24
"""Per entry of the vocabulary and sequence: 12 bytes each (id, logit, probability), which samplers copy once."""

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
        runtime=_runtime_bytes(facts, concurrency=concurrency),
    )


def _runtime_bytes(facts: ModelFacts, *, concurrency: int) -> int:
    tokenizer = _TOKEN_BYTES * facts.vocabulary_size + _MERGE_BYTES * facts.vocabulary_merges
    return _PROCESS_BYTES + tokenizer + _CANDIDATE_BYTES * facts.vocabulary_size * concurrency


def _padded(tokens: int) -> int:
    return -(-tokens // _CONTEXT_STEP) * _CONTEXT_STEP


def _repacked_bytes(facts: ModelFacts, isa: tuple[str, ...]) -> int:
    types = frozenset[str]().union(*(_REPACKED_TYPES[flag] for flag in isa if flag in _REPACKED_TYPES))
    return sum(group.repackable_bytes for group in facts.tensors if group.type in types)
