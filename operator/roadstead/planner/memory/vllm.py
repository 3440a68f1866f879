"""How much memory vLLM needs: two figures, and a start to decide between them.

vLLM takes a share of the card whatever the model, so what it was seen to hold says nothing of what it needs. Here it is
told what it gets: ``--kv-cache-memory-bytes`` with :func:`kv_cache_bytes` and ``--max-num-seqs`` with the concurrency.
What remains beside weights and cache is from published measurements:

* KAITO (kaito-project/kaito: presets/workspace/generator/model-sku-calculation.md, vLLM 0.10): weights are 2 % above
  the files, with 5 % for what an even split leaves over; at most 0.6 GiB outside of PyTorch and 1.7 GiB of activations.
* llm-d (llm-d-incubation/llm-d-planner: accuracy/accuracy_report.md, vLLM 0.19 on H100): activations are hardly those
  of layers. They follow vocabulary times sequences, 3.7 to 4.3 rows of 32-bit logits for each of the 1,024 sequences
  that the sampler is warmed up with there, and exceed 1.7 GiB with vocabularies from 128,000 tokens. That is why the
  number of sequences is told to it. With more than one device 2.1 to 2.2 GiB lie outside of PyTorch on each, for
  collective operations.

The cache is laid out as in vllm/v1/kv_cache_interface.py and vllm/v1/core/kv_cache_utils.py: blocks of 16 tokens,
layers with a window in groups of their own, latent attention on every device in full. Keys and values have 16 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from roadstead.planner.memory.header import Header
from roadstead.planner.memory.needs import Bounds, Needs
from roadstead_weights.facts import ModelFacts

_MIB: Final = 1024 * 1024
_GIB: Final = 1024 * _MIB
_BLOCK_TOKENS: Final = 16
_BATCHED_TOKENS: Final = 8192
"""Tokens of prompts in one step on the largest devices; others have 2,048. So far a window is filled ahead."""
_ELEMENT_BYTES: Final = 2
_F32: Final = "F32"
_F32_BYTES: Final = 4
_WEIGHTS_MOST: Final = 1.071
"""1.02 for what lies around them, 1.05 for what does not divide evenly."""
_OUTSIDE_TORCH: Final = int(0.6 * _GIB)
"""CUDA context (0.51 GiB on an H100) and libraries."""
_COLLECTIVES: Final = int(1.6 * _GIB)
"""Further memory outside of PyTorch where several devices work together."""
_ACTIVATIONS: Final = int(1.7 * _GIB)
_LOGIT_ROWS: Final = 4.3
"""32-bit rows as wide as the vocabulary that the sampler has for each sequence."""
_SIMILAR_COUNTS: Final = 1.5
"""Kinds of layers whose numbers differ by less are padded to the larger one."""
_LATENT_ROPE: Final = 64
"""Rotated elements beside a latent, where the header does not say."""
_PROCESS: Final = Bounds(least=2 * _GIB, most=4 * _GIB)
"""Of the host, for the server and the engine with one worker. Measured with vLLM 0.32 on a CPU: its three processes
held 2.5 GiB beyond weights and cache."""
_FURTHER_WORKER: Final = Bounds(least=_GIB // 2, most=2 * _GIB)
"""Each is an interpreter with PyTorch and a context of its device; not measured."""
_RING: Final = 240 * _MIB
"""vllm/distributed/device_communicators/shm_broadcast.py: ten chunks of 24 MiB, for each worker and for all."""
_NCCL_SHARED: Final = _GIB
"""What NCCL's guide gives a container (``--shm-size=1g``), for devices that do not reach each other directly."""


def needs_of_vllm(facts: ModelFacts, *, context_tokens: int, concurrency: int, devices: int) -> Needs:
    """Of one replica that spans ``devices`` by tensor parallelism, or runs on the CPU (0).

    What a device needs is to be compared with what is free there; ``context_tokens`` is per sequence. Weights are read
    through a mapping of their files and copied, so nothing of them has to stay in the page cache, and no more than one
    tensor is on the host at a time.
    """
    lacking = _cache(facts, context_tokens=context_tokens, concurrency=1, devices=devices, least=True)
    cache = kv_cache_bytes(facts, context_tokens=context_tokens, concurrency=concurrency, devices=devices)
    share = max(1, devices)
    least = _halved(facts) // share + lacking
    most = int(_WEIGHTS_MOST * facts.tensor_bytes / share) + cache + _activations(facts, concurrency)
    if not devices:
        host = Bounds(least=_PROCESS.least + least, most=_PROCESS.most + most)
        return Needs(device=Bounds(least=0, most=0), host=host, page_cache=0, disk=facts.file_bytes, shared_memory=0)
    most += _OUTSIDE_TORCH + (_COLLECTIVES if devices > 1 else 0)
    return Needs(
        device=Bounds(least=least + _OUTSIDE_TORCH, most=most),
        host=Bounds(
            least=_PROCESS.least + (devices - 1) * _FURTHER_WORKER.least,
            most=_PROCESS.most + (devices - 1) * _FURTHER_WORKER.most + devices * _largest_tensor(facts),
        ),
        page_cache=0,
        disk=facts.file_bytes,
        shared_memory=(devices + 1) * _RING + _NCCL_SHARED if devices > 1 else 0,
    )


def kv_cache_bytes(facts: ModelFacts, *, context_tokens: int, concurrency: int, devices: int) -> int:
    """What ``--kv-cache-memory-bytes`` has to say, on each device, for so many sequences of full length at once.

    The share that vLLM is told to use (``--gpu-memory-utilization``) then decides nothing, but vLLM still does not
    start where less than that is free.
    """
    return _cache(facts, context_tokens=context_tokens, concurrency=concurrency, devices=devices, least=False)


class _Layer(NamedTuple):
    elements: int
    """For each token, on each device."""
    windowed: bool


def _cache(facts: ModelFacts, *, context_tokens: int, concurrency: int, devices: int, least: bool) -> int:
    """Bytes on each device. ``least`` leaves out whatever may not be there."""
    header = Header(facts)
    layers = _layers(header, devices, least=least)
    window = header.number("attention.sliding_window")
    full = [layer.elements for layer in layers if not layer.windowed]
    narrow = [layer.elements for layer in layers if layer.windowed]
    blocks = _blocks(context_tokens)
    seen = _blocks(min(context_tokens, window if least else window + _BATCHED_TOKENS))
    if not narrow or least:
        pages = concurrency * (sum(full) * blocks + sum(narrow) * seen)
    else:
        pages = _grouped(full, narrow, concurrency=concurrency, blocks=blocks, seen=seen + 1)
    spare = 0 if least else max(sum(full), sum(narrow))  # one block stays empty, for every group the same
    return _ELEMENT_BYTES * _BLOCK_TOKENS * (pages + spare)


def _grouped(full: Sequence[int], narrow: Sequence[int], *, concurrency: int, blocks: int, seen: int) -> int:
    """Elements for each token of a block, with all groups padded to the same number of layers of the same size."""
    counts = [len(kind) for kind in (full, narrow) if kind]
    size = max(counts) if max(counts) < _SIMILAR_COUNTS * min(counts) else min(counts)
    groups = -(-len(full) // size) * blocks + -(-len(narrow) // size) * seen
    return concurrency * size * groups * max((*full, *narrow))


def _layers(header: Header, devices: int, *, least: bool) -> list[_Layer]:
    """A layer that keeps a state is at most as large as one that attends: vLLM gives both pages of one size."""
    share = max(1, devices)
    latent = header.number("attention.kv_lora_rank")
    windowed = _windowed(header, unknown=least)
    if latent:
        elements = latent + header.number("rope.dimension_count", _LATENT_ROPE)
        return [_Layer(elements, windowed=False)] * header.blocks
    size = header.key_length + header.value_length
    largest = max(header.kv_heads, default=0)
    return [
        _Layer(-(-(heads or (0 if least else largest)) // share) * size, windowed=narrow)
        for heads, narrow in zip(header.kv_heads, windowed, strict=True)
    ]


def _windowed(header: Header, *, unknown: bool) -> tuple[bool, ...]:
    """Which layers see a window only; ``unknown`` where the header says a window and not whose it is."""
    if not header.number("attention.sliding_window"):
        return (False,) * header.blocks
    flags = header.array("attention.sliding_window_pattern")
    if flags is not None:
        return tuple(map(bool, flags))
    period = header.number("attention.sliding_window_pattern")
    if period:
        return tuple((index + 1) % period != 0 for index in range(header.blocks))
    return (unknown,) * header.blocks


def _activations(facts: ModelFacts, concurrency: int) -> int:
    return max(_ACTIVATIONS, int(_LOGIT_ROWS * _F32_BYTES * facts.vocabulary_size * concurrency))


def _halved(facts: ModelFacts) -> int:
    """Weights in 32 bits are served in 16, where nobody says otherwise."""
    return sum(group.elements * _ELEMENT_BYTES if group.type == _F32 else group.bytes for group in facts.tensors)


def _largest_tensor(facts: ModelFacts) -> int:
    """The embedding, in 16 bits."""
    return _ELEMENT_BYTES * facts.vocabulary_size * Header(facts).embedding


def _blocks(tokens: int) -> int:
    return -(-tokens // _BLOCK_TOKENS)
