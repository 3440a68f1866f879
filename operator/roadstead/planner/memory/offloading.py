"""Which weights lie where when llama.cpp offloads all layers to devices (``src/llama-model.cpp: load_tensors``).

The embedding stays on the host, and the output head counts as one more layer behind the last block. An embedding that
is the head as well is there twice: rows of it are looked up on the host, and it is multiplied with on a device. Layers
go to devices in order, in equal numbers if the engine is told so (``--tensor-split``); by itself it goes by what is
free. Facts do not name tensors, so what the embedding takes is told from what no backend repacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from roadstead.planner.memory.header import Header
from roadstead.planner.memory.needs import Bounds
from roadstead_weights.facts import ModelFacts, TensorGroup

_ROWS_MULTIPLE: Final = 8
"""Of a matrix that may be repacked; where it is another number, a head looks like a table."""


class Offloaded(NamedTuple):
    """Bytes of weights."""

    host: int
    """At most: the embedding, mapped."""
    devices: Bounds
    """On all of them together."""
    head: Bounds
    """Of those the output head."""


def offloaded(facts: ModelFacts) -> Offloaded:
    """With all layers on devices."""
    everything = facts.tensor_bytes
    tied = sum(group.looked_up_bytes for group in facts.tensors)
    if tied:
        both = Bounds(least=tied, most=tied)
        return Offloaded(host=tied, devices=Bounds(least=everything, most=everything), head=both)
    elements = facts.vocabulary_size * Header(facts).embedding
    head = _sizes(elements, ((group, group.bytes) for group in facts.tensors))
    table = _sizes(elements, ((group, group.bytes - group.repackable_bytes) for group in facts.tensors))
    if not table.most:  # a head that nobody has marked as a table
        return Offloaded(host=head.most, devices=Bounds(least=everything, most=everything), head=head)
    apart = facts.vocabulary_size % _ROWS_MULTIPLE == 0
    devices = Bounds(least=everything - table.most, most=everything - (table.least if apart else 0))
    return Offloaded(host=table.most, devices=devices, head=head)


def largest_part(weights: Offloaded, caches: Sequence[float], *, blocks: int, devices: int) -> int:
    """Bytes of weights and caches, at most, on the device that gets most; ``caches`` are by block."""
    each = (weights.devices.most - weights.head.least) / max(1, blocks)
    loads = [0.0] * devices
    for index in range(blocks + 1):
        cache = caches[index] if index < len(caches) else 0.0
        loads[index * devices // (blocks + 1)] += (weights.head.most if index == blocks else each) + cache
    return int(min(max(loads), weights.devices.most + sum(caches)))


def _sizes(elements: int, groups: Iterable[tuple[TensorGroup, int]]) -> Bounds:
    """Of a matrix in one of the types that have so many bytes of such."""
    able = [
        elements * group.bytes // group.elements
        for group, available in groups
        if group.elements and 0 < elements * group.bytes <= available * group.elements
    ]
    return Bounds(least=min(able, default=0), most=max(able, default=0))
