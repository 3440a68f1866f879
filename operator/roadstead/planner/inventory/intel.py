"""Intel's labels. They name GPUs and Gaudi, and leave their memory out.

Node Feature Discovery's rules say ``gpu.intel.com/product=Max_1550`` and ``gpu.intel.com/device.count=2``
(intel/intel-device-plugins-for-kubernetes: cmd/gpu_plugin/labels.md). The plugin of version 0.30 could add
``gpu.intel.com/memory.max``, the bytes of all cards together; that of 0.35 does not. Gaudi has a resource,
``habana.ai/gaudi``, and no labels. A device whose memory nobody tells is none to plan with, and what is there is told
in words instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from roadstead.domain.inventory import Device, Vendor
from roadstead.planner.inventory.told import Told, product_name, whole_number

_PREFIX: Final = "gpu.intel.com/"
_RESOURCES: Final = (f"{_PREFIX}i915", f"{_PREFIX}xe")
_GAUDI: Final = "habana.ai/gaudi"


def intel_told(labels: Mapping[str, str], allocatable: Mapping[str, int]) -> Told:
    """Intel's GPUs by a node's labels, and its Gaudi by what is offered."""
    return _gpus(labels, allocatable) + _gaudi(allocatable)


def _gpus(labels: Mapping[str, str], allocatable: Mapping[str, int]) -> Told:
    offered = sum(allocatable.get(resource, 0) for resource in _RESOURCES)
    named = labels.get(f"{_PREFIX}product")
    count = whole_number(labels, f"{_PREFIX}device.count")
    if named is None and not offered:
        return Told()
    product = product_name(named or "GPU")
    memory = whole_number(labels, f"{_PREFIX}memory.max")
    if not count or not memory:
        return Told(ambiguities=(f"labels tell of {count or offered} Intel {product} and not of their memory",))
    # The plugin may offer a GPU to several at once (shared-dev-num) without a label that says so.
    if offered and offered % count:
        return Told(ambiguities=(f"labels tell of {count} Intel {product}, and {offered} are offered",))
    return Told(
        tuple(
            Device(
                id=f"intel-{index}",
                vendor=Vendor.INTEL,
                product=product,
                memory_bytes=memory // count,
                clients=max(1, offered // count),
            )
            for index in range(count)
        )
    )


def _gaudi(allocatable: Mapping[str, int]) -> Told:
    offered = allocatable.get(_GAUDI, 0)
    return Told(ambiguities=(f"{offered} {_GAUDI} are offered, and nothing tells of their memory",) if offered else ())
