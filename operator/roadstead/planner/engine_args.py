"""What a spec asks of an engine beyond model, context and sequences, in the engine's own words; and back again.

The words are part of a content, so that what is served can be told from the release alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from roadstead.domain.model import CacheType, Requirements

_KEYS, _VALUES = "--cache-type-k", "--cache-type-v"
_USUAL: Final = "f16"


def engine_args(requirements: Requirements) -> tuple[str, ...]:
    """For llama.cpp; none for what it does by itself, so that asking for the usual is no other content."""
    if requirements.cache_type is CacheType.F16:
        return ()
    word = requirements.cache_type.lower()
    return (_KEYS, word, _VALUES, word)


def cache_types(args: Sequence[str]) -> tuple[str, str]:
    """The types that keys and values are kept in, as ``ggml`` calls them."""
    said = dict(pairwise(args))
    return said.get(_KEYS, _USUAL), said.get(_VALUES, _USUAL)
