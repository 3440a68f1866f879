"""What llama.cpp's CPU backend rearranges while it loads a model, and how it should be loaded for that.

It copies matrices of some types into another layout (``ggml/src/ggml-cpu/repack.cpp``). From a mapped file they are
then held twice: once as they are in the file, once rearranged. Read instead of mapped they are held once, which for the
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
    types = frozenset[str]().union(*(_REPACKED_TYPES[flag] for flag in isa if flag in _REPACKED_TYPES))
    return sum(group.repackable_bytes for group in facts.tensors if group.type in types)


def better_read(facts: ModelFacts, isa: Iterable[str]) -> bool:
    """Whether the file should be read rather than mapped."""
    return repacked_bytes(facts, isa) > _WORTH_READING * facts.tensor_bytes
