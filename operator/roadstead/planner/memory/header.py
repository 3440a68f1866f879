"""A model's header as an engine reads it: by the architecture's own keys.

Keys are GGUF's. A ``config.json`` has other names for the same numbers, and those are understood as well, so that what
is computed from a header is written down once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from roadstead_weights.facts import Format, ModelFacts

_CONFIG_KEYS: Final = {
    "first_k_dense_replace": "leading_dense_block_count",
    "kv_lora_rank": "attention.kv_lora_rank",
    "moe_intermediate_size": "expert_feed_forward_length",
    "n_routed_experts": "expert_count",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "num_local_experts": "expert_count",
    "qk_rope_head_dim": "rope.dimension_count",
    "sliding_window": "attention.sliding_window",
    "sliding_window_pattern": "attention.sliding_window_pattern",
}
"""Names that ``config.json`` has for them."""


class Header:
    """The numbers of one header. A key is one number for all layers, or one number for each."""

    def __init__(self, facts: ModelFacts) -> None:
        self.architecture = facts.architecture
        self.blocks = facts.block_count
        self.vocabulary = facts.vocabulary_size
        self._numbers: Mapping[str, int | tuple[int, ...]] = _numbers(facts)

    def has(self, key: str) -> bool:
        return key in self._numbers

    def number(self, key: str, default: int = 0) -> int:
        """The value; of one per layer the largest."""
        value = self._numbers.get(key, default)
        return value if isinstance(value, int) else max(value, default=default)

    def per_layer(self, key: str, default: int = 0) -> tuple[int, ...]:
        """One number for each of the ``blocks``, however the file says it."""
        value = self._numbers.get(key, default)
        if isinstance(value, int):
            return (value,) * self.blocks
        return (*value, *(default,) * self.blocks)[: self.blocks]

    def array(self, key: str) -> tuple[int, ...] | None:
        """The value where the file has one number for each layer."""
        value = self._numbers.get(key)
        return None if value is None or isinstance(value, int) else self.per_layer(key)

    @property
    def embedding(self) -> int:
        return self.number("embedding_length")

    @property
    def heads(self) -> tuple[int, ...]:
        return self.per_layer("attention.head_count")

    @property
    def kv_heads(self) -> tuple[int, ...]:
        """As many as heads where the file does not say."""
        if self.has("attention.head_count_kv"):
            return self.per_layer("attention.head_count_kv")
        return self.heads

    @property
    def key_length(self) -> int:
        return self.number("attention.key_length", self._head_size)

    @property
    def value_length(self) -> int:
        return self.number("attention.value_length", self._head_size)

    @property
    def _head_size(self) -> int:
        """llama.cpp divides by the first layer's heads, which some layers of a hybrid do not have."""
        heads = next((count for count in self.heads if count), 0)
        return self.embedding // heads if heads else 0


def _numbers(facts: ModelFacts) -> Mapping[str, int | tuple[int, ...]]:
    if facts.format is not Format.SAFETENSORS:
        return dict(facts.numbers or _named(facts))
    said = {_CONFIG_KEYS.get(key, key): value for key, value in facts.numbers}
    windowed = {"attention.sliding_window": facts.sliding_window, "attention.kv_lora_rank": facts.kv_lora_rank}
    return {**dict(_named(facts)), **windowed, **said}


def _named(facts: ModelFacts) -> tuple[tuple[str, int | tuple[int, ...]], ...]:
    """What is known of facts that were recorded before all numbers were."""
    return (
        ("embedding_length", facts.embedding_length),
        ("feed_forward_length", facts.feed_forward_length),
        ("attention.head_count", facts.head_count),
        ("attention.head_count_kv", facts.head_count_kv),
        ("attention.key_length", facts.key_length),
        ("attention.value_length", facts.value_length),
    )
