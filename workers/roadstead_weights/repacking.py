"""What llama.cpp's CPU backend rearranges while it loads a model, and how it should be loaded for that.

It copies matrices of some types into another layout (``ggml/src/ggml-cpu/repack.cpp``). From a mapped file they are
then held twice: once as they are in the file, once rearranged. Read instead of mapped they are held once (but for an
embedding that is the output head as well: rows of it are looked up as they are in the file), which for the
most usual file, Q4_K_M, saves nearly half of the memory; where little is rearranged, mapping starts faster and several
engines share the pages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from roadstead_weights.facts import ModelFacts

_REPACKED_TYPES: Final = {
    "avx2": frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
    "asimddp": frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL"}),
}
"""By CPU flag."""
_WORTH_READING: Final = 0.1
"""Share of the weights that would be held twice."""


def repacked_bytes(facts: ModelFacts, isa: Iterable[str]) -> int:
    """Bytes of the matrices that a CPU with these flags has rearranged."""
    types = _repacked_types(isa)
    return sum(group.repackable_bytes for group in facts.tensors if group.type in types)


def held_twice_bytes(facts: ModelFacts, isa: Iterable[str]) -> int:
    """Beside the file's own bytes, by an engine that maps or reads it as is better."""
    flags = tuple(isa)
    if not better_read(facts, flags):
        return repacked_bytes(facts, flags)
    return sum(group.looked_up_bytes for group in facts.tensors if group.type in _repacked_types(flags))


def better_read(facts: ModelFacts, isa: Iterable[str]) -> bool:
    """Whether the file should be read rather than mapped."""
    return repacked_bytes(facts, isa) > _WORTH_READING * facts.tensor_bytes


def _repacked_types(isa: Iterable[str]) -> frozenset[str]:
    return frozenset[str]().union(*(_REPACKED_TYPES[flag] for flag in isa if flag in _REPACKED_TYPES))
