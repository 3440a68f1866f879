"""The words that the capability matrix is written in: one row for each thing that an engine can do.

Rows only say what works. Why something does not is found by how far it gets in the rows there are, so no refusal has to
be foreseen, and none can contradict a row. Each row says which versions it holds for and where that was read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from roadstead_weights.facts import Scheme

Version = tuple[int, ...]
Capability = tuple[int, int]
"""NVIDIA's compute capability: ``(8, 9)``."""


class Engine(StrEnum):
    """The value is what a WorkerPool calls it."""

    LLAMA_CPP = "LlamaCpp"
    VLLM = "VLLM"
    TRANSFORMERS = "Transformers"


class Backend(StrEnum):
    """What a build of an engine computes with."""

    CPU = "CPU"
    CUDA = "CUDA"
    ROCM = "ROCm"
    SYCL = "SYCL"
    """Intel's GPUs; PyTorch says XPU."""
    HPU = "HPU"
    """Gaudi."""
    VULKAN = "Vulkan"


class Spread(StrEnum):
    """How an engine uses several devices for one replica."""

    TENSORS = "Tensors"
    """Each matrix is cut in equal parts."""
    LAYERS = "Layers"
    """Each device has some of the layers whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way of running weights of some schemes on one backend. An empty condition is none."""

    backend: Backend
    schemes: tuple[Scheme, ...]
    since: Version = ()
    until: Version | None = None
    """The first version that it does not hold for."""
    capability: Capability = (0, 0)
    """The least."""
    below: Capability | None = None
    """The least that it does not hold for."""
    architectures: tuple[str, ...] = ()
    """Beginnings of AMD's names, one of which it must be: ``gfx94``."""
    isa: tuple[str, ...] = ()
    """Instruction sets that are all needed, as the kernel names them."""
    bits: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    """Group sizes; -1: the whole row."""
    plugin: str = ""
    """The package that has to be installed beside the engine."""
    slow: str = ""
    """Why it is slower than the weights' size would let one expect; empty: native."""
    held_bits: int = 0
    """Of a weight once it is loaded, where that is not as in the file."""
    source: str

    def holds_for(self, version: Version) -> bool:
        return within(version, self.since, self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class DtypeRow:
    """A floating point type that an engine does not compute in: on some devices, or for some models."""

    dtype: str
    instead: str
    backend: Backend
    below: Capability | None = None
    """Devices under it; None: all."""
    models: tuple[str, ...] = ()
    """Architectures; empty: all."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRow:
    """What the part of a matrix that one device gets must be divisible by."""

    backends: tuple[Backend, ...]
    schemes: tuple[Scheme, ...]
    since: Version = ()
    until: Version | None = None
    whole_groups: bool = False
    """Inputs by the group size."""
    whole_blocks: bool = False
    """Outputs by the group size as well. A matrix that is not cut may end in the midst of a block."""
    inputs: int = 1
    outputs: int = 1
    padded: str = ""
    """What happens to a part that is not divisible; empty: the engine refuses it."""
    source: str

    def holds_for(self, version: Version) -> bool:
        return within(version, self.since, self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All that is known of one engine."""

    rows: tuple[Row, ...]
    """Of one scheme and backend from the best way to the one that asks least of the hardware."""
    dtypes: tuple[DtypeRow, ...] = ()
    partitions: tuple[PartitionRow, ...] = ()
    spread: Spread
    own_processes: int = 0
    """That work for every token beside those that compute."""


def version_of(text: str) -> Version:
    """The numbers a version begins with: ``0.33.0rc1`` is (0, 33, 0), ``b11434`` is (11434,); () where there are none.

    Numbers, because "0.9" is more than "0.28" as text.
    """
    found = re.match(r"\D*(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def within(version: Version, since: Version, until: Version | None) -> bool:
    return since <= version and (until is None or version < until)
