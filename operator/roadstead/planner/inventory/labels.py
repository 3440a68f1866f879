"""What a node's labels tell of its hardware: for nodes on which no agent runs yet.

Memory comes from labels and never from a table of products: ECC, drivers and slices change it. Labels know neither
cores nor the host's memory, and nothing of what is free.
"""

from __future__ import annotations

from collections.abc import Mapping

from roadstead.domain.inventory import Inventory, Vendor
from roadstead.planner.inventory.amd import amd_told
from roadstead.planner.inventory.intel import intel_told
from roadstead.planner.inventory.nvidia import nvidia_told
from roadstead.planner.inventory.processor import isa_told
from roadstead.planner.inventory.told import Told


def labels_told(labels: Mapping[str, str], allocatable: Mapping[str, int]) -> Mapping[Vendor, Told]:
    """By vendor, what labels and device plugins tell of accelerators."""
    return {
        Vendor.NVIDIA: nvidia_told(labels, allocatable),
        Vendor.AMD: amd_told(labels, allocatable),
        Vendor.INTEL: intel_told(labels, allocatable),
    }


def inventory_of_labels(labels: Mapping[str, str], allocatable: Mapping[str, int]) -> Inventory:
    """All that follows from them alone."""
    told = sum(labels_told(labels, allocatable).values(), Told())
    return Inventory(isa=isa_told(labels), devices=told.devices, ambiguities=told.ambiguities)
