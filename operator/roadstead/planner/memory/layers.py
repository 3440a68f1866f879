"""What each layer of a model keeps while it serves, as llama.cpp lays it out.

Read from its sources at b11434 (``llama-model.cpp: create_memory``, ``llama-hparams.cpp``, ``models/*.cpp``) and
checked against the allocator of the wheel that we ship. An architecture that is not named here is one of plain
attention, which is what llama.cpp does with it too; a newer one that keeps less is then estimated too high, never too
low.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from roadstead.planner.memory.header import Header

_F32_BYTES: Final = 4


class Layer(NamedTuple):
    """One block's share of the caches."""

    key_elements: int = 0
    """In each cell."""
    value_elements: int = 0
    windowed: bool = False
    """Whether it attends to the window only, and has cells for no more than that."""
    state_bytes: int = 0
    """For each sequence, however long it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """How an architecture mixes layers that see a window with layers that see everything."""

    period: int = 0
    """One in so many layers sees everything, where the file has neither a period nor a flag for each layer."""
    full_first: bool = False
    tokens: int = 0
    """Width where the file does not say one."""
    fixed: bool = False
    """Whether the width above counts although the file says another."""


_WINDOWS: Final = {
    "afmoe": _Window(period=4),
    "cohere2": _Window(period=4),
    "cohere2moe": _Window(period=4),
    "exaone-moe": _Window(period=4, tokens=128),
    "gemma2": _Window(period=2, tokens=4096),
    "gemma3": _Window(period=6),
    "gemma3n": _Window(period=5),
    "gemma4": _Window(),
    "gpt-oss": _Window(period=2),
    "granite_swa": _Window(),
    "laguna": _Window(period=4, full_first=True),
    "llama4": _Window(period=4, tokens=8192, fixed=True),
    "maple": _Window(),
    "mellum": _Window(period=4),
    "mimo2": _Window(),
    "muse-glimmer": _Window(period=4),
    "olmo2": _Window(period=4),
    "plamo3": _Window(period=8),
    "smallthinker": _Window(period=4, full_first=True, tokens=4096, fixed=True),
    "spark2_5": _Window(),
    "step35": _Window(),
}
"""Others that say a window (Mistral, Phi-3) attend to everything in llama.cpp."""
_EXAONE4_WINDOWED_BLOCKS: Final = 64
"""Of the EXAONE 4 models only the one with so many blocks has windows."""

_RECURRENT: Final = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
_RECURRENT_WHERE_NO_KV_HEADS: Final = frozenset({
    "bailingmoe3", "granitehybrid", "jamba", "kimi-k3", "kimi-linear", "lfm2", "lfm2moe", "nemotron_h",
    "nemotron_h_moe", "plamo2",
})  # fmt: skip
_RECURRENT_BUT_EVERY: Final = {"minimax-01": 8, "qwen3next": 4, "qwen35": 4, "qwen35moe": 4}
"""One in so many layers attends, where the file does not say another interval."""
_BOTH_IN_EVERY_LAYER: Final = frozenset({"falcon-h1"})
_KV_FROM_START: Final = {"gemma3n": 20}
"""Layers after so many have no cache of their own."""


def layers_of(header: Header) -> tuple[Layer, ...]:
    """One for each block that the engine serves with; drafting blocks are not loaded into any cache."""
    served = max(0, header.blocks - header.number("nextn_predict_layers"))
    windowed = _windowed(header)
    recurrent = _recurrent(header)
    state = _state_bytes(header)
    latent = header.number("attention.key_length_mla") > 0 and header.number("attention.value_length_mla") > 0
    cached = _KV_FROM_START.get(header.architecture, served - header.number("attention.shared_kv_layers"))
    both = header.architecture in _BOTH_IN_EVERY_LAYER
    index_key = header.number("attention.indexer.key_length")  # sparse attention finds its cells by a key of its own
    layers = []
    for index, heads in enumerate(header.kv_heads[:served]):
        attends = index < cached and (both or not recurrent[index])
        swa = "_swa" if windowed[index] else ""
        key = header.number(f"attention.key_length{swa}", header.key_length)
        value = header.number(f"attention.value_length{swa}", header.value_length)
        layers.append(
            Layer(
                key_elements=key * heads + index_key if attends else 0,
                value_elements=value * heads if attends and not latent else 0,
                windowed=windowed[index] and attends,
                state_bytes=state if both or recurrent[index] else 0,
            )
        )
    return tuple(layers)


def window_tokens(header: Header) -> int:
    """Width of the window in tokens; 0 without one."""
    window = _WINDOWS.get(header.architecture)
    if header.architecture == "exaone4" and header.blocks == _EXAONE4_WINDOWED_BLOCKS:
        window = _Window(period=4, tokens=4096)
    if header.architecture == "lfm2":
        window = _Window()
    if window is None:
        return 0
    said = header.number("attention.sliding_window", window.tokens)
    return window.tokens if window.fixed and (said or not header.has("attention.sliding_window")) else said


def _windowed(header: Header) -> tuple[bool, ...]:
    if not window_tokens(header):
        return (False,) * header.blocks
    flags = header.array("attention.sliding_window_pattern")
    if flags is not None:
        return tuple(map(bool, flags))
    if header.architecture == "lfm2":
        return tuple(not recurrent for recurrent in _recurrent(header))
    window = _WINDOWS.get(header.architecture, _Window(period=4))
    period = header.number("attention.sliding_window_pattern", window.period)
    if not period:
        return (True,) * header.blocks
    full = 0 if window.full_first else period - 1
    return tuple(index % period != full for index in range(header.blocks))


def _recurrent(header: Header) -> tuple[bool, ...]:
    architecture = header.architecture
    if architecture in _RECURRENT or architecture in _BOTH_IN_EVERY_LAYER:
        return (True,) * header.blocks
    if architecture in _RECURRENT_WHERE_NO_KV_HEADS:
        hidden = header.per_layer("feed_forward_length") if architecture.startswith("nemotron_h") else ()
        hidden = hidden or (0,) * header.blocks
        return tuple(not heads and not wide for heads, wide in zip(header.kv_heads, hidden, strict=True))
    flags = header.array("attention.recurrent_layers")
    if flags is not None:
        return tuple(map(bool, flags))
    every = _RECURRENT_BUT_EVERY.get(architecture)
    if every is None:
        return (False,) * header.blocks
    every = max(1, header.number("full_attention_interval", every))
    return tuple((index + 1) % every != 0 for index in range(header.blocks))


def _state_bytes(header: Header) -> int:
    """Of one recurrent layer and sequence; states are kept as 32-bit floats."""
    return _F32_BYTES * (_convolution(header) + _memory(header))


def _convolution(header: Header) -> int:
    if header.has("wkv.head_size"):
        return header.number("token_shift_count", 2) * header.embedding
    if header.has("shortconv.l_cache"):
        return header.embedding * (header.number("shortconv.l_cache") - 1)
    kernel = header.number("ssm.conv_kernel")
    if header.has("kda.head_dim"):
        return 3 * (kernel - 1 if kernel else 3) * header.number("attention.head_count") * header.number("kda.head_dim")
    width = header.number("ssm.inner_size") + 2 * header.number("ssm.group_count") * header.number("ssm.state_size")
    return max(0, kernel - 1) * width


def _memory(header: Header) -> int:
    if header.has("wkv.head_size"):
        return header.embedding * header.number("wkv.head_size")
    if header.has("shortconv.l_cache"):
        return 0
    if header.has("kda.head_dim"):
        return header.number("kda.head_dim") ** 2 * header.number("attention.head_count")
    if header.architecture == "minimax-01":
        return header.key_length**2 * header.number("attention.head_count")
    return header.number("ssm.state_size") * header.number("ssm.inner_size")
