"""AMD's labels, as its node labeller writes them, and what the device plugin offers beside them.

The older labels carry the value in the key, and how many devices have it in the value:
``beta.amd.com/gpu.vram.64G=1`` (ROCm/k8s-device-plugin: cmd/k8s-node-labeller/README.md). The newer ones,
``amd.com/gpu.vram=192G``, say nothing of how many. Memory is rounded to GiB there. Two values of memory are two types
of device, which the labeller does not support. Partitioned cards are offered as ``amd.com/gpu`` or by their partition,
``amd.com/cpx_nps4`` (ROCm/gpu-operator#382).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from roadstead.domain.inventory import Device, Vendor
from roadstead.planner.inventory.told import Told, product_name

_NEW: Final = "amd.com/gpu."
_OLD: Final = "beta.amd.com/gpu."
_OFFERED: Final = re.compile(r"amd\.com/(gpu|[a-z]+_nps\d+)")
_MEMORY: Final = re.compile(r"(\d+)G", re.ASCII)
_GIB: Final = 1024**3


def amd_told(labels: Mapping[str, str], allocatable: Mapping[str, int]) -> Told:
    """AMD's devices by a node's labels; nothing of a node without such labels."""
    memory = _values(labels, "vram")
    if not memory:
        return Told()
    product = " and ".join(product_name(name) for name in _values(labels, "product-name")) or _unnamed(labels)
    if len(memory) > 1:
        return Told(ambiguities=(f"labels tell of {product} with {' and '.join(sorted(memory))} of memory each",))
    ((size, count),) = memory.items()
    offered = [number for name, number in allocatable.items() if _OFFERED.fullmatch(name)]
    number = sum(offered) if offered else count
    if number is None:
        return Told(ambiguities=(f"labels tell of {product} and not of how many, and no amd.com/gpu is offered",))
    if count is not None and count != number:
        return Told(
            ambiguities=(f"labels tell of {count} {product} with {size}, and {number} amd.com/gpu are offered",)
        )
    found = _MEMORY.fullmatch(size)
    if found is None:
        return Told(ambiguities=(f"labels tell of {size!r} of memory of {product}, which is no number of GiB",))
    return Told(
        tuple(
            Device(id=f"amd-{index}", vendor=Vendor.AMD, product=product, memory_bytes=int(found.group(1)) * _GIB)
            for index in range(number)
        )
    )


def _values(labels: Mapping[str, str], about: str) -> dict[str, int | None]:
    """Each value of a property with the number of devices that have it; None where that is not told."""
    prefix = f"{_OLD}{about}."
    values: dict[str, int | None] = {
        label.removeprefix(prefix): int(number) if number.isascii() and number.isdigit() else None
        for label, number in labels.items()
        if label.startswith(prefix)
    }
    newest = labels.get(f"{_NEW}{about}")
    if newest is not None:
        values.setdefault(newest, None)
    return values


def _unnamed(labels: Mapping[str, str]) -> str:
    """By the PCI id of the device, where the labeller knew no name."""
    return "AMD-" + "-".join(_values(labels, "device-id")) if _values(labels, "device-id") else "AMD"
