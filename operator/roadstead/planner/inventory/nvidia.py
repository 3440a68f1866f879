"""NVIDIA's labels, as GPU Feature Discovery writes them, and what the device plugin offers beside them.

Of each resource (``nvidia.com/gpu``, and with the mixed MIG strategy ``nvidia.com/mig-3g.40gb``) there are
``.product``, ``.memory`` (MiB), ``.count`` and ``.replicas`` (NVIDIA/k8s-device-plugin:
docs/gpu-feature-discovery/README.md, internal/lm/resource.go). With the single strategy a card's labels speak of its
slices. Shared devices are offered under their own name or as ``<name>.shared``, ``replicas`` times, and all of a
device's replicas have the same memory.

The labels describe one type of device only, while all are offered (NVIDIA/gpu-feature-discovery#13, #66), and
``.replicas`` has been seen to say 1 where 50 were offered (NVIDIA/k8s-device-plugin#732). So a count that is not the
one offered makes all of that resource uncertain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from roadstead.domain.inventory import Device, Sharing, Vendor
from roadstead.planner.inventory.told import Told, product_name, whole_number

_DOMAIN: Final = "nvidia.com/"
_CARD: Final = f"{_DOMAIN}gpu"
_SLICE_COUNT: Final = re.compile(rf"({_DOMAIN}mig-.+)\.count")
_MIB: Final = 1024 * 1024
_SHARED: Final = "-SHARED"
_STRATEGIES: Final = {"mps": Sharing.MPS, "time-slicing": Sharing.TIME_SLICING}


def nvidia_told(labels: Mapping[str, str], allocatable: Mapping[str, int]) -> Told:
    """NVIDIA's devices by a node's labels; nothing of a node without such labels."""
    slices = sorted(match.group(1) for label in labels if (match := _SLICE_COUNT.fullmatch(label)))
    told = Told()
    for resource in slices:
        told += _of_resource(resource, labels, allocatable, count=whole_number(labels, f"{resource}.count"))
    count = whole_number(labels, f"{_CARD}.count")
    if slices and count is not None:
        return told + _whole_cards_beside_slices(labels, allocatable, count)
    return told + _of_resource(_CARD, labels, allocatable, count=count)


def _of_resource(
    resource: str, labels: Mapping[str, str], allocatable: Mapping[str, int], *, count: int | None
) -> Told:
    if count is None:
        return Told()
    product = labels.get(f"{resource}.product", "")
    sharing, clients = _sharing(resource, labels)
    offered = _offered(resource, allocatable)
    if product.endswith("-MIG-INVALID"):
        return Told(ambiguities=(f"{resource}.product is {product}: its cards are cut in unlike slices",))
    if offered is not None and offered != count * clients:
        labelled = f"{count} {product}" if clients == 1 else f"{count} {product} for {clients} clients each"
        return Told(ambiguities=(f"labels tell of {labelled}, and {offered} {resource} are offered",))
    memory = whole_number(labels, f"{resource}.memory")
    if count and not memory:
        return Told(ambiguities=(f"labels tell of {count} {product} and not of their memory",))
    product, _, profile = product_name(product).removesuffix(_SHARED).partition("-MIG-")
    return Told(
        tuple(
            Device(
                id=f"{resource.removeprefix(_DOMAIN)}-{index}",
                vendor=Vendor.NVIDIA,
                product=product,
                memory_bytes=(memory or 0) * _MIB,
                compute_capability=_compute_capability(labels),
                mig_profile=profile,
                sharing=sharing,
                clients=clients,
            )
            for index in range(count)
        )
    )


def _whole_cards_beside_slices(labels: Mapping[str, str], allocatable: Mapping[str, int], count: int) -> Told:
    """With the mixed strategy ``count`` is of all cards, cut or not, so those that are whole are those offered."""
    whole = _offered(_CARD, allocatable) or 0
    if whole > count:
        return Told(ambiguities=(f"labels tell of {count} cards, cut ones included, and {whole} {_CARD} are offered",))
    return _of_resource(_CARD, labels, allocatable, count=whole)


def _offered(resource: str, allocatable: Mapping[str, int]) -> int | None:
    """By the device plugin, under either name; None where none runs."""
    found = [allocatable[name] for name in (resource, f"{resource}.shared") if name in allocatable]
    return sum(found) if found else None


def _sharing(resource: str, labels: Mapping[str, str]) -> tuple[Sharing, int]:
    clients = whole_number(labels, f"{resource}.replicas") or 1
    if clients == 1:
        return Sharing.NONE, 1
    # Before there was a word for it, replicas were time slices.
    return _STRATEGIES.get(labels.get(f"{resource}.sharing-strategy", ""), Sharing.TIME_SLICING), clients


def _compute_capability(labels: Mapping[str, str]) -> tuple[int, int] | None:
    """Kept for cards only; slices are of the same ones."""
    major, minor = (whole_number(labels, f"{_CARD}.compute.{part}") for part in ("major", "minor"))
    return None if major is None or minor is None else (major, minor)
