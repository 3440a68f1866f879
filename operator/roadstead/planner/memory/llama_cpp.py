"""How much memory an engine will need, from the header alone: the resident set it reaches once it has worked.

The buffers are llama.cpp's own allocation rules (``layers``, ``activations``), checked against its allocator over
synthetic headers of some forty architectures. What the allocator does not tell was fitted to the resident set of the
wheel's server after a prompt on every sequence (``python -m tests.bench.memory``; docs/reference/performance.md has the
table):

* A tokenizer costs by its size. The same model with 98,304 further tokens held 19.4 MiB more than its tensors, and with
  98,304 merge rules on top another 17 (14 with four sequences): for a vocabulary like Llama 3's that is 59 MiB more
  than for SmolLM2's.
* A sequence costs its sampler's candidates: 1.0 to 1.5 MiB with 49,152 tokens beyond cache and output.
* The rest is the process: libraries 20 MiB, interpreter and heap. ``llama-server`` has no interpreter and needs less.

With devices all layers are offloaded, and what is not known of the vendor's libraries becomes a difference of bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from roadstead.planner.memory.activations import mask_bytes, peak_bytes, quantized_cache_bytes, score_bytes
from roadstead.planner.memory.header import Header
from roadstead.planner.memory.layers import Layer, layers_of, window_tokens
from roadstead.planner.memory.needs import Bounds, Needs
from roadstead.planner.memory.offloading import largest_part, offloaded
from roadstead_weights.facts import ModelFacts
from roadstead_weights.repacking import better_read, held_twice_bytes

_MIB: Final = 1024 * 1024
_MICRO_BATCH: Final = 512
"""llama.cpp's default ``n_ubatch``: rows computed at once."""
_CONTEXT_STEP: Final = 256
"""Cells of a sequence are padded to this many."""
_F32_BYTES: Final = 4
CACHE_BYTES: Final = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
                       "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32}  # fmt: skip
"""Bytes of an element by the type that keys and values are kept in."""
_PROCESS_BYTES: Final = int(34.5 * 1024 * 1024)
_TOKEN_BYTES: Final = 210
"""Per entry of the vocabulary."""
_MERGE_BYTES: Final = 200
"""Per merge rule of a byte-pair tokenizer."""
_CANDIDATE_BYTES: Final = 24
"""Per entry of the vocabulary and sequence: 12 bytes each (id, logit, probability), which samplers copy once."""
_ESTIMATE: Final = (0.95, 1.03)
"""What an engine holds beyond its weights, by what was estimated. Of 24 measurements all lay between; estimates are
rather high, because prompts leave a part of a long context's buffer untouched."""
_COMPUTE_LEAST: Final = 0.8
"""The peak of experts, latent attention and recurrent layers is estimated up to a quarter too high."""
_CONTEXT: Final = Bounds(least=int(0.3 * 1024) * _MIB, most=int(0.6 * 1024) * _MIB)
"""CUDA and its libraries on each device."""
_FIT_MARGIN: Final = 1024 * _MIB
"""What llama.cpp itself leaves free on a device (``--fit-target``): pools grow with the shapes of what is asked."""
_LIBRARIES_MOST: Final = 1024 * _MIB
"""Of a vendor's libraries on the host; not measured."""
_INPUT_COPIES: Final = 4
"""Where layers are spread over devices, steps overlap (``GGML_SCHED_MAX_COPIES``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Bytes of host memory of one replica's engine, by what they are for."""

    weights: int
    repacked: int
    """Of the weights what is held a second time."""
    kv_cache: int
    states: int
    """Of recurrent layers."""
    compute: int
    output: int
    runtime: int

    @property
    def total(self) -> int:
        """What a replica takes a lease for."""
        return self.weights + self.repacked + self.kv_cache + self.states + self.compute + self.output + self.runtime


def estimate_llama_cpp(
    facts: ModelFacts,
    *,
    context_tokens: int,
    concurrency: int,
    isa: tuple[str, ...],
    keys: str = "f16",
    values: str = "f16",
    micro_batch: int = _MICRO_BATCH,
) -> MemoryEstimate:
    """Memory of llama.cpp's server on a CPU with flash attention and no prompt cache, mapped or read as it is started.

    ``context_tokens`` is per sequence; ``isa`` are the node's CPU flags, which decide what is repacked; ``keys`` and
    ``values`` are the types that the cache keeps.
    """
    header = Header(facts)
    layers = layers_of(header)
    cells, windowed = _cells(header, layers, context_tokens, micro_batch)
    kv_bytes = sum(_cache(layer, keys, values, windowed if layer.windowed else cells) for layer in layers)
    states = sum(layer.state_bytes for layer in layers)
    rows = min(micro_batch, cells * concurrency)
    seen = cells if any(layer.key_elements and not layer.windowed for layer in layers) else 0
    state = max((layer.state_bytes for layer in layers), default=0)
    compute = peak_bytes(header, rows=rows, sequences=concurrency, state_bytes=state)
    compute += mask_bytes(rows, seen) + mask_bytes(rows, windowed) + score_bytes(header, rows, seen)
    if (keys, values) != ("f16", "f16"):
        compute += quantized_cache_bytes(header, rows)
    return MemoryEstimate(
        weights=facts.tensor_bytes,
        repacked=held_twice_bytes(facts, isa),
        kv_cache=int(kv_bytes * concurrency),
        states=states * concurrency,
        compute=compute,
        output=_F32_BYTES * facts.vocabulary_size * concurrency,
        runtime=_runtime_bytes(facts, concurrency=concurrency),
    )


def needs_of_llama_cpp(
    facts: ModelFacts,
    *,
    context_tokens: int,
    concurrency: int,
    isa: tuple[str, ...],
    keys: str = "f16",
    values: str = "f16",
    devices: int,
) -> Needs:
    """Of one replica on the CPU (``devices`` 0), or with all its layers on devices.

    Weights that are mapped are in ``page_cache`` and not in ``host``: a lease, which counts what is resident, is for
    both. The other parameters are those of :func:`estimate_llama_cpp`.
    """
    estimate = estimate_llama_cpp(
        facts, context_tokens=context_tokens, concurrency=concurrency, isa=isa, keys=keys, values=values
    )
    if not devices:
        return _on_host(facts, estimate, isa)
    header = Header(facts)
    layers = layers_of(header)
    cells, windowed = _cells(header, layers, context_tokens, _MICRO_BATCH)
    caches = [
        concurrency * (_cache(layer, keys, values, windowed if layer.windowed else cells) + layer.state_bytes)
        for layer in layers
    ]
    rows = min(_MICRO_BATCH, cells * concurrency)
    inputs = _F32_BYTES * rows * header.embedding + mask_bytes(rows, cells) + mask_bytes(rows, windowed)
    copied = (_INPUT_COPIES - 1) * inputs if devices > 1 else 0
    weights = offloaded(facts)
    least = (weights.devices.least + int(sum(caches))) // devices + int(_COMPUTE_LEAST * estimate.compute)
    most = largest_part(weights, caches, blocks=header.blocks, devices=devices) + estimate.compute + copied
    beside = estimate.runtime + estimate.output
    return Needs(
        device=Bounds(least=least + _CONTEXT.least, most=most + estimate.output + _CONTEXT.most + _FIT_MARGIN),
        host=Bounds(
            least=int(_ESTIMATE[0] * beside), most=int(_ESTIMATE[1] * (beside + inputs + copied)) + _LIBRARIES_MOST
        ),
        page_cache=weights.host,
        disk=facts.file_bytes,
        shared_memory=0,
    )


def _on_host(facts: ModelFacts, estimate: MemoryEstimate, isa: tuple[str, ...]) -> Needs:
    mapped = 0 if better_read(facts, isa) else facts.tensor_bytes
    exact = estimate.weights + estimate.repacked
    beside = estimate.total - exact
    low, high = _ESTIMATE
    return Needs(
        device=Bounds(least=0, most=0),
        host=Bounds(
            least=exact - mapped + int(low * (beside - (1 - _COMPUTE_LEAST) * estimate.compute)),
            most=exact - mapped + int(high * beside),
        ),
        page_cache=mapped,
        disk=facts.file_bytes,
        shared_memory=0,
    )


def _cache(layer: Layer, keys: str, values: str, cells: int) -> float:
    return cells * (layer.key_elements * CACHE_BYTES[keys] + layer.value_elements * CACHE_BYTES[values])


def _cells(header: Header, layers: Sequence[Layer], context_tokens: int, micro_batch: int) -> tuple[int, int]:
    """Of a sequence, in layers that see everything and in those with a window."""
    cells = _padded(context_tokens)
    window = window_tokens(header) if any(layer.windowed for layer in layers) else 0
    return cells, min(cells, _padded(min(cells, window + micro_batch))) if window else 0


def _runtime_bytes(facts: ModelFacts, *, concurrency: int) -> int:
    tokenizer = _TOKEN_BYTES * facts.vocabulary_size + _MERGE_BYTES * facts.vocabulary_merges
    return _PROCESS_BYTES + tokenizer + _CANDIDATE_BYTES * facts.vocabulary_size * concurrency


def _padded(tokens: int) -> int:
    return -(-tokens // _CONTEXT_STEP) * _CONTEXT_STEP
