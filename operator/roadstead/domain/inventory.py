"""What a node has that models can run on: processor, memory, accelerators; and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Vendor(StrEnum):
    """Who made an accelerator. Models are never spread over devices of two of them."""

    NVIDIA = "NVIDIA"
    AMD = "AMD"
    INTEL = "Intel"
    HABANA = "Habana"


class Sharing(StrEnum):
    """How several processes use one device."""

    NONE = "None"
    TIME_SLICING = "TimeSlicing"
    """In turns, with no limit of memory for any of them."""
    MPS = "MPS"
    """At once, each with its share of memory and compute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator that a process can be given: a card, or a slice of one."""

    id: str
    """Unique on the node: the vendor's UUID where it is known, else made of kind and number."""
    vendor: Vendor
    product: str
    """As ``nvidia.com/gpu.product`` writes it (``NVIDIA-L40S``), of other vendors in the same manner."""
    memory_bytes: int
    free_bytes: int | None = None
    """What no process holds now; None where only labels tell of the device."""
    compute_capability: tuple[int, int] | None = None
    """NVIDIA's: ``(8, 9)``. Numbers, because "10.0" is less than "8.0" as text."""
    architecture: str = ""
    """AMD's and Intel's: ``gfx942``."""
    mig_profile: str = ""
    """``1g.10gb`` of a slice; empty for a whole card."""
    sharing: Sharing = Sharing.NONE
    clients: int = 1
    """Processes that the cluster hands the device to at once: all of them have the same memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """A node's hardware. A figure that nobody told is None."""

    cores: int | None = None
    memory_bytes: int | None = None
    """Of the host, for engines."""
    isa: frozenset[str] | None = None
    """Instruction sets as the kernel names them; None: not told, so nothing follows from one that is missing."""
    memory_bandwidth: float | None = None
    """Bytes a second that all cores together read."""
    disk_bytes: int | None = None
    """Free for weights."""
    devices: tuple[Device, ...] = ()
    """Only those that are certain."""
    ambiguities: tuple[str, ...] = ()
    """What contradicts itself or is not told in full, in words. What it is about is not in ``devices``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedDevice:
    """One device in a ResourceSlice, in its driver's words."""

    name: str
    attributes: tuple[tuple[str, str], ...] = ()
    """Sorted. Those of the driver's own domain go without it; numbers and versions are text."""
    capacity: tuple[tuple[str, int], ...] = ()
    """Sorted. Bytes and counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSlice:
    """A ResourceSlice: some or all devices that a driver of dynamic resource allocation publishes for one node."""

    node: str
    driver: str
    """``gpu.nvidia.com``."""
    pool: str
    generation: int
    """Of the pool. Slices of an older one are no more true."""
    slices: int
    """How many slices make up that generation of the pool."""
    devices: tuple[PublishedDevice, ...]
