"""What a replica of a content takes of a node's memory."""

from __future__ import annotations

from functools import lru_cache

from roadstead.domain.release import Content
from roadstead.planner.engine_args import cache_types
from roadstead.planner.memory.llama_cpp import estimate_llama_cpp
from roadstead.planner.nodes import Seat


def memory_of(content: Content, seat: Seat) -> int:
    """Bytes a replica of this content needs on this node."""
    return bytes_needed(content, seat.facts.isa if seat.facts is not None else ())


@lru_cache(maxsize=1 << 12)
def bytes_needed(content: Content, isa: tuple[str, ...]) -> int:
    """The same by the instruction set of the node, which decides what is repacked."""
    keys, values = cache_types(content.engine_args)
    return estimate_llama_cpp(
        content.artifact.facts,
        context_tokens=content.context_tokens,
        concurrency=content.concurrency,
        isa=isa,
        keys=keys,
        values=values,
    ).total
