"""What DRA drivers publish in ResourceSlices: each device by itself, so that nodes of mixed types are told right.

Read as ``gpu.nvidia.com`` writes them (kubernetes-sigs/dra-driver-nvidia-gpu: cmd/gpu-kubelet-plugin/deviceinfo.go) and
``gpu.amd.com`` (ROCm/k8s-gpu-dra-driver: docs/driver-attributes.md). A card that is cut in MIG slices is published
beside them (dra-driver-nvidia-gpu#719) and is not counted; slices that could be made are not there yet, and neither are
the virtual partitions of AMD's AutoPartition. Devices handed to virtual machines (``vfio``) are nobody's here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from roadstead.domain.inventory import Device, DeviceSlice, PublishedDevice, Vendor
from roadstead.planner.inventory.told import Told, product_name


def slices_told(slices: Sequence[DeviceSlice]) -> Mapping[Vendor, Told]:
    """By vendor, what the slices of one node tell. A vendor that is not in there has no driver on it."""
    pools: dict[tuple[str, str], list[DeviceSlice]] = defaultdict(list)
    for each in slices:
        if each.driver in _DRIVERS:
            pools[each.driver, each.pool].append(each)
    told: dict[Vendor, Told] = {}
    for (driver, pool), published in sorted(pools.items(), key=lambda item: item[0]):
        vendor, read = _DRIVERS[driver]
        told[vendor] = told.get(vendor, Told()) + _of_pool(pool, published, read)
    return told


def _of_pool(name: str, slices: Sequence[DeviceSlice], read: Callable[[Sequence[PublishedDevice]], Told]) -> Told:
    newest = max(each.generation for each in slices)
    current = [each for each in slices if each.generation == newest]
    wanted = max(each.slices for each in current)
    if len(current) < wanted:
        driver = current[0].driver
        return Told(ambiguities=(f"{len(current)} of the {wanted} ResourceSlices of {driver}, pool {name}, are there",))
    return read(sorted((device for each in current for device in each.devices), key=lambda device: device.name))


def _nvidia(published: Sequence[PublishedDevice]) -> Told:
    cut = {dict(each.attributes).get("parentUUID") for each in published if _type(each) == "mig"}
    usable = [
        each
        for each in published
        if _type(each) == "mig" or (_type(each) == "gpu" and dict(each.attributes).get("uuid", each.name) not in cut)
    ]
    return _with_memory(usable, _nvidia_device)


def _nvidia_device(published: PublishedDevice, memory: int) -> Device:
    words = dict(published.attributes)
    return Device(
        id=words.get("uuid", published.name),
        vendor=Vendor.NVIDIA,
        product=product_name(words.get("productName", "NVIDIA")),
        memory_bytes=memory,
        compute_capability=_major_minor(words.get("cudaComputeCapability", "")),
        mig_profile=words.get("profile", "") if words.get("type") == "mig" else "",
    )


def _amd(published: Sequence[PublishedDevice]) -> Told:
    usable = [
        each
        for each in published
        if _type(each) in {"amdgpu", "amdgpu-partition"}
        and dict(each.attributes).get("computePartition", "spx") == "spx"
    ]
    return _with_memory(usable, _amd_device)


def _amd_device(published: PublishedDevice, memory: int) -> Device:
    words = dict(published.attributes)
    part = words.get("partitionProfile", "") if words.get("type") == "amdgpu-partition" else ""
    return Device(
        id=published.name,
        vendor=Vendor.AMD,
        product=product_name(words.get("productName", "AMD")),
        memory_bytes=memory,
        mig_profile=part,
    )


_DRIVERS: Final[Mapping[str, tuple[Vendor, Callable[[Sequence[PublishedDevice]], Told]]]] = {
    "gpu.nvidia.com": (Vendor.NVIDIA, _nvidia),
    "gpu.amd.com": (Vendor.AMD, _amd),
}


def _with_memory(published: Sequence[PublishedDevice], read: Callable[[PublishedDevice, int], Device]) -> Told:
    """AMD's driver publishes 0 for memory that it could not read."""
    memory = {each.name: dict(each.capacity).get("memory", 0) for each in published}
    return Told(
        tuple(read(each, memory[each.name]) for each in published if memory[each.name]),
        tuple(f"the driver publishes no memory of {each.name}" for each in published if not memory[each.name]),
    )


def _type(published: PublishedDevice) -> str:
    return dict(published.attributes).get("type", "")


def _major_minor(version: str) -> tuple[int, int] | None:
    """``8.9.0`` is (8, 9)."""
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
