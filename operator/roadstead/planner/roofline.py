"""How fast a model can be, from what has to be read and computed for a token and how fast that goes.

To generate a token an engine reads the weights that are active and the keys and values so far, and can do so no faster
than memory is read; a prompt costs two operations for each active weight and token. How much of that engines reach:

* 0.65 of a device's bandwidth and 0.6 of a host's with 16-bit weights, less with fewer bits, because those have to be
  unpacked: from the speeds of Llama 3.1 8B in llama.cpp's ``tools/quantize/README.md``, by bits per weight rather than
  by type, for small models fall back to larger types than their files are named after.
* 0.45 of a device's arithmetic in vLLM, 0.3 in llama.cpp.

Against published speeds (XiongjieDai/GPU-Benchmarks-on-LLM-Inference: README.md; a vLLM sweep on an A100) and our own
this is right within a factor of 1.4 for tokens on devices and of 2.2 for tokens on a host and for prompts, mostly too
low. What such a figure refuses is never measured, so nothing corrects it: beside what is expected stands the best that
is possible, with an empty context and all of the bandwidth or arithmetic, and only that refuses.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple

from roadstead.planner.device_speeds import DeviceSpeed
from roadstead.planner.memory.activations import expert_width
from roadstead.planner.memory.header import Header
from roadstead.planner.memory.llama_cpp import estimate_llama_cpp
from roadstead.planner.memory.vllm import kv_cache_bytes
from roadstead_weights.facts import Format, ModelFacts, Scheme, TensorGroup

_OF_DEVICE: Final = 0.65
_OF_HOST: Final = 0.6
_BEST_OF_HOST: Final = 1.35
"""What an agent sees in a second is not all that a memory can; caches help small models."""
_OF_ARITHMETIC: Final = {Format.SAFETENSORS: 0.45, Format.GGUF: 0.3}
_BY_BITS: Final = (
    (2.38, 0.41), (2.93, 0.47), (3.16, 0.54), (3.64, 0.56), (4.30, 0.64), (4.67, 0.765), (5.70, 0.82), (6.56, 0.83),
    (8.50, 0.93), (16.0, 1.0),
)  # fmt: skip
"""Bits per weight, and the bandwidth that is used as part of what 16 bits use."""
_TOGETHER: Final = 0.8
"""So many devices that divide every layer are as fast as this power of their number. By layers they take turns for a
token, and work at once on parts of a prompt, if it is long."""
_MATRICES: Final = 3
"""Of an expert: gate, up and down."""
_PACKED: Final = frozenset({"I8", "I32", "U8", "U32"})
"""Types of SafeTensors that hold several quantized weights, or one."""
_OPERATIONS: Final = 2
"""For each weight and token: one multiplication, one addition."""


class Active(NamedTuple):
    """The part of a model that one token goes through."""

    bytes: int
    weights: int
    looked_up: int
    """Of the weights the table of tokens, of which one row is read, unless it is the output head as well."""

    @property
    def least_bytes(self) -> int:
        """What is read in any case."""
        return self.bytes * max(0, self.weights - self.looked_up) // max(1, self.weights)


class Computed(NamedTuple):
    """Tokens a second, or seconds."""

    expected: float
    best: float


def active(facts: ModelFacts) -> Active | None:
    """All of a dense model; of experts those that are chosen. None where the header does not tell how large they are.

    Experts are estimated from the header's dimensions, with the bits that weights of the file have on average.
    """
    total = sum(_weights(group, facts) for group in facts.tensors)
    header = Header(facts)
    table = facts.vocabulary_size * header.embedding
    used = header.number("expert_used_count")
    if not used:
        return Active(bytes=facts.tensor_bytes, weights=total, looked_up=table)
    count = header.number("expert_count")
    layers = max(0, header.blocks - header.number("leading_dense_block_count"))
    layers //= max(1, header.number("interleave_moe_layer_step", 1))
    experts = layers * count * _MATRICES * header.embedding * expert_width(header)
    if not 0 < experts < total or used > count:
        return None
    share = 1 - experts * (1 - used / count) / total
    return Active(bytes=int(share * facts.tensor_bytes), weights=int(share * total), looked_up=table)


def decode_on_host(
    facts: ModelFacts, *, bandwidth: float, context_tokens: int, keys: str = "f16", values: str = "f16"
) -> Computed | None:
    """Tokens a second of one stream that has so many tokens already; ``bandwidth`` is bytes a second of all cores."""
    through = active(facts)
    if through is None or not through.least_bytes:
        return None
    read = through.bytes + _kept(facts, context_tokens, keys, values)
    return Computed(
        expected=_OF_HOST * _unpacking(facts) * bandwidth / read,
        best=_BEST_OF_HOST * bandwidth / through.least_bytes,
    )


def decode_on_devices(
    facts: ModelFacts,
    speeds: Sequence[DeviceSpeed],
    *,
    context_tokens: int,
    keys: str = "f16",
    values: str = "f16",
) -> Computed | None:
    """Tokens a second of one stream on devices that hold the model together."""
    through = active(facts)
    if through is None or not through.least_bytes or not speeds:
        return None
    bandwidth = min(speed.bandwidth for speed in speeds)
    read = through.bytes + _kept(facts, context_tokens, keys, values)
    return Computed(
        expected=_OF_DEVICE * _unpacking(facts) * _together(facts, len(speeds)) * bandwidth / read,
        best=(1 if facts.format is Format.GGUF else len(speeds)) * bandwidth / through.least_bytes,
    )


def first_token_on_devices(facts: ModelFacts, speeds: Sequence[DeviceSpeed], *, prompt_tokens: int) -> Computed | None:
    """Seconds until the first token of an answer, nothing else being under way. Not known of hosts."""
    through = active(facts)
    if through is None or not through.weights or not speeds:
        return None
    operations = _OPERATIONS * through.weights * prompt_tokens
    usual = _OF_ARITHMETIC[facts.format] * min(_arithmetic(speed, facts) for speed in speeds)
    most = min(_most_arithmetic(speed, facts) for speed in speeds)
    computed = _OPERATIONS * max(0, through.weights - through.looked_up) * prompt_tokens
    return Computed(
        expected=operations / (_together(facts, len(speeds)) * usual),
        best=computed / (len(speeds) * most),
    )


def _kept(facts: ModelFacts, context_tokens: int, keys: str, values: str) -> int:
    """Bytes of the context that are read for one token. States of recurrent layers are read and written."""
    if facts.format is Format.SAFETENSORS:
        return kv_cache_bytes(facts, context_tokens=context_tokens, concurrency=1, devices=1)
    kept = estimate_llama_cpp(facts, context_tokens=context_tokens, concurrency=1, isa=(), keys=keys, values=values)
    return kept.kv_cache + 2 * kept.states


def _unpacking(facts: ModelFacts) -> float:
    """Between two rows in proportion."""
    total = sum(_weights(group, facts) for group in facts.tensors)
    bits = 8 * facts.tensor_bytes / total if total else 0.0
    at = bisect_left(_BY_BITS, (bits,))
    if at in {0, len(_BY_BITS)}:
        return _BY_BITS[min(at, len(_BY_BITS) - 1)][1]
    (low, less), (high, more) = _BY_BITS[at - 1], _BY_BITS[at]
    return less + (more - less) * (bits - low) / (high - low)


def _together(facts: ModelFacts, devices: int) -> float:
    """How many times as fast as one several devices are."""
    return 1.0 if facts.format is Format.GGUF else float(devices**_TOGETHER)


def _arithmetic(speed: DeviceSpeed, facts: ModelFacts) -> float:
    """Weights that are only stored in few bits are computed with in 16."""
    if facts.scheme in {Scheme.FP8, Scheme.MXFP8, Scheme.NVFP4}:
        return speed.fp8
    return speed.int8 if facts.scheme is Scheme.INT8 else speed.fp16


def _most_arithmetic(speed: DeviceSpeed, facts: ModelFacts) -> float:
    """Whatever kernels there may be: llama.cpp computes with 8 bits as well, and new devices with 4, twice as fast."""
    if facts.scheme is Scheme.PLAIN:
        return speed.fp16
    most = max(speed.fp16, speed.int8, speed.fp8)
    return 2 * most if facts.scheme in {Scheme.NVFP4, Scheme.MXFP4} else most


def _weights(group: TensorGroup, facts: ModelFacts) -> int:
    """Number of weights, however many of them an element of the file holds."""
    if facts.format is Format.SAFETENSORS and facts.weight_bits and group.type in _PACKED:
        return max(group.elements, 8 * group.bytes // facts.weight_bits)
    return group.elements
