"""The compute buffer of llama.cpp: what its graph holds at once at most while a micro-batch goes through a layer.

Its allocator reuses what is no longer needed, so the buffer is the peak of one layer, not the sum of them. Below are
the peaks of the parts that can set it, in floats for each row of the micro-batch, as the graphs of b11434 build them
and as the allocator confirmed: nearly to the float for dense models (40 architectures), never too low and at most a
quarter too high for experts, latent attention and recurrent layers.
"""

from __future__ import annotations

from typing import Final

from roadstead.planner.memory.header import Header

_F32_BYTES: Final = 4
_STREAM: Final = 5
"""Copies of a row as wide as the model that are alive beside the widest part: residual, normed, outputs, inputs."""
_INPUTS: Final = 4
_MASK_INPUTS: Final = 6
"""Floats for each row: its token, position and output; and where it goes in a cache."""
_WITHOUT_GATE: Final = frozenset({
    "arcee", "bloom", "codeshell", "falcon", "gpt2", "gptneox", "jais2", "mpt", "nemotron", "nemotron_h",
    "nemotron_h_moe", "phi2", "starcoder", "starcoder2",
})  # fmt: skip
"""One hidden row instead of gate, up and their product."""
_ONE_MORE_ROW: Final = frozenset({"cohere2moe", "falcon-h1", "phi2"})
"""Attention and feed-forward start from the same row, and one more is kept for it."""
_ROTATED_BESIDE: Final = frozenset({"cohere2", "cohere2moe", "command-r", "plamo"}) | _WITHOUT_GATE
"""Where queries that are rotated for a quantized cache meet the widest point."""
_ONLY_EXPERTS: Final = frozenset({
    "bailingmoe", "gpt-oss", "granitehybrid", "granitemoe", "llada-moe", "mellum", "olmoe", "qwen2moe", "qwen35moe",
    "qwen3moe", "qwen3next", "qwen3vlmoe", "smallthinker",
})  # fmt: skip
"""No layer of them is dense."""
_EXPERTS_AS_WIDE_AS_DENSE: Final = frozenset({
    "arctic", "dbrx", "granitemoe", "hunyuan-moe", "jamba", "llama", "minimax-m2", "olmoe", "phimoe",
})  # fmt: skip
"""They do not read a width of experts."""
_ALWAYS_SHARED: Final = frozenset({"llama4"})
"""One expert that every row goes through, whatever the file says."""
_DELTA_NET: Final = frozenset({"qwen3next", "qwen35", "qwen35moe"})
_TIME_MIX: Final = {"arwkv7": 22, "rwkv6": 17, "rwkv6qwen2": 17, "rwkv7": 22}
"""Rows as wide as the model."""
_ROTATION_BYTES: Final = 16 * 1024
_WITHOUT_FLASH_ATTENTION: Final = frozenset({"grok"})


def peak_bytes(header: Header, *, rows: int, sequences: int, state_bytes: int) -> int:
    """At the widest point of any layer; ``state_bytes`` is what a recurrent layer keeps of each sequence."""
    parts = (_feed_forward(header), _experts(header), _attention(header), _time_mix(header))
    kept = _state_copies(header) * state_bytes + _F32_BYTES * _convolved(header) * header.number("ssm.conv_kernel")
    mixer = _F32_BYTES * rows * _mixer(header) + sequences * kept
    return _F32_BYTES * rows * (_INPUTS + _beside(header)) + max(_F32_BYTES * rows * max(parts), mixer)


def mask_bytes(rows: int, cells: int) -> int:
    """Which row sees which cell, as 16-bit floats; of every kind of cache one."""
    return rows * (2 * cells + _F32_BYTES * _MASK_INPUTS) if cells else 0


def score_bytes(header: Header, rows: int, cells: int) -> int:
    """The attention scores of architectures that cannot do without them."""
    if header.architecture not in _WITHOUT_FLASH_ATTENTION:
        return 0
    return _F32_BYTES * rows * cells * header.number("attention.head_count")


def quantized_cache_bytes(header: Header, rows: int) -> int:
    """What a quantized cache adds: rotations of keys and values, and queries that are rotated into a copy."""
    rotations = sum(
        header.number(f"attention.{part}_length{kind}", plain) ** 2 * _F32_BYTES + _ROTATION_BYTES
        for part, plain in (("key", header.key_length), ("value", header.value_length))
        for kind in ("", "_swa")
    )
    crossing = header.architecture in _ROTATED_BESIDE
    return rotations + (_F32_BYTES * rows * _queries(header) if crossing else 0)


def expert_width(header: Header) -> int:
    """Hidden elements of one expert."""
    wide = header.number("feed_forward_length")
    if header.architecture in _EXPERTS_AS_WIDE_AS_DENSE:
        return wide
    return header.number("expert_feed_forward_length", wide)


def _beside(header: Header) -> int:
    """Rows that live through all layers."""
    each = header.number("embedding_length_per_layer_input")
    streams = header.number("altup.num_inputs")
    copies = 2 if streams else 1
    return copies * header.blocks * each + streams * header.embedding


def _hidden(header: Header) -> int:
    wide = header.number("feed_forward_length")
    return wide // 2 if header.architecture == "qwen" else wide


def _feed_forward(header: Header) -> int:
    if _only_experts(header):
        return 0
    held = 1 if header.architecture in _WITHOUT_GATE else 3
    return (_STREAM + (header.architecture in _ONE_MORE_ROW)) * header.embedding + held * _hidden(header)


def _only_experts(header: Header) -> bool:
    """Whether the width of a dense feed-forward, if the file has one, is nobody's."""
    if header.architecture == "llama4":
        return header.number("interleave_moe_layer_step") == 1
    return header.architecture in _ONLY_EXPERTS


def _experts(header: Header) -> int:
    """Every chosen expert works on its own copy of the row."""
    used = header.number("expert_used_count")
    if not used:
        return 0
    wide = expert_width(header)
    out = used * header.embedding
    # The outputs go where gate and up have been, if they fit there.
    routed = 3 * used * wide + (out if out > 2 * used * wide else 0)
    count = header.number("expert_shared_count")
    shared = header.number("expert_shared_feed_forward_length", count * wide)
    beside = 1 if count or header.architecture in _ALWAYS_SHARED | _ONE_MORE_ROW else 0
    return (_STREAM + beside) * header.embedding + max(routed, 3 * shared)


def _queries(header: Header) -> int:
    return header.number("attention.head_count") * header.key_length


def _attention(header: Header) -> int:
    heads = header.number("attention.head_count")
    latent = header.number("attention.kv_lora_rank")
    if latent and header.has("attention.key_length_mla"):
        rope = header.number("rope.dimension_count")
        query = header.number("attention.key_length_mla")
        return _STREAM * header.embedding + heads * (query + 2 * (latent + rope))
    return _STREAM * header.embedding + 2 * _queries(header) + max(header.kv_heads, default=0) * header.key_length


def _mixer(header: Header) -> int:
    """State-space and linear-attention layers: projections, the convolution, and what goes through the scan."""
    stream = (_STREAM + 4 * (header.architecture == "falcon-h1")) * header.embedding
    if header.has("kda.head_dim"):
        return stream + 9 * header.number("kda.head_dim") * header.number("attention.head_count")
    inner = header.number("ssm.inner_size")
    if not inner:
        return 0
    beside = 3 * (_convolved(header) - inner)
    if header.architecture in _DELTA_NET:
        return stream + 3 * inner + beside
    ungrouped = 0 if header.number("ssm.group_count") else 2 * header.number("ssm.state_size")
    return stream + 5 * inner + beside + header.number("ssm.time_step_rank") + ungrouped


def _convolved(header: Header) -> int:
    return header.number("ssm.inner_size") + 2 * header.number("ssm.group_count") * header.number("ssm.state_size")


def _state_copies(header: Header) -> int:
    """Of the states, while they are moved on."""
    return 3 if header.architecture in _DELTA_NET or header.has("kda.head_dim") else 1


def _time_mix(header: Header) -> int:
    """RWKV: receptance, weight, key, value, gate and their mixes with the token before."""
    return _TIME_MIX.get(header.architecture, 0) * header.embedding
