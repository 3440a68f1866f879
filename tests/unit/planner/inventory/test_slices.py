"""What DRA drivers publish: devices as they were published in issues and documents, each named."""

from __future__ import annotations

from dataclasses import replace

from roadstead.domain.inventory import Device, DeviceSlice, PublishedDevice, Vendor
from roadstead.planner.inventory.slices import slices_told

GIB = 1024**3
A100 = {
    "architecture": "Ampere",
    "cudaComputeCapability": "8.0.0",
    "productName": "NVIDIA A100 80GB PCIe",
}


def device(name: str, *, memory: int, **attributes: str) -> PublishedDevice:
    return PublishedDevice(
        name=name, attributes=tuple(sorted(attributes.items())), capacity=(("memory", memory), ("multiprocessors", 42))
    )


def card(index: int) -> PublishedDevice:
    return device(f"gpu-{index}", memory=80 * GIB, type="gpu", uuid=f"GPU-{index}", **A100)


def cut(index: int, parent: int) -> PublishedDevice:
    return device(
        f"gpu-{parent}-mig-9-{index}-4",
        memory=40192 * 1024**2,
        type="mig",
        uuid=f"MIG-{index}",
        parentUUID=f"GPU-{parent}",
        profile="3g.40gb",
        **A100,
    )


def published(*devices: PublishedDevice, driver: str = "gpu.nvidia.com", generation: int = 1) -> DeviceSlice:
    return DeviceSlice(node="n", driver=driver, pool="n", generation=generation, slices=1, devices=devices)


def test_a_card_has_its_drivers_words() -> None:
    """kubernetes-sigs/dra-driver-nvidia-gpu#719."""
    told = slices_told([published(card(1))])[Vendor.NVIDIA]
    assert told.ambiguities == ()
    assert told.devices == (
        Device(
            id="GPU-1",
            vendor=Vendor.NVIDIA,
            product="NVIDIA-A100-80GB-PCIe",
            memory_bytes=80 * GIB,
            compute_capability=(8, 0),
        ),
    )


def test_a_card_that_is_cut_is_its_slices_and_not_itself_although_both_are_published() -> None:
    """kubernetes-sigs/dra-driver-nvidia-gpu#719."""
    told = slices_told([published(card(0), card(1), cut(0, parent=0), cut(1, parent=0))])[Vendor.NVIDIA]
    assert [(each.id, each.mig_profile) for each in told.devices] == [
        ("MIG-0", "3g.40gb"),
        ("MIG-1", "3g.40gb"),
        ("GPU-1", ""),
    ]


def test_compute_capability_is_compared_as_numbers() -> None:
    blackwell = device("gpu-0", memory=180 * GIB, type="gpu", cudaComputeCapability="10.0.0", productName="NVIDIA B200")
    (found,) = slices_told([published(blackwell)])[Vendor.NVIDIA].devices
    assert found.compute_capability == (10, 0)
    assert found.compute_capability > (8, 9)


def test_slices_that_could_be_made_and_devices_of_virtual_machines_are_not_there() -> None:
    possible = device("gpu-0-mig-1g10gb-0", memory=10 * GIB, type="migdyn", profile="1g.10gb", **A100)
    passed = device("gpu-vfio-1", memory=80 * GIB, type="vfio")
    assert slices_told([published(possible, passed, card(2))])[Vendor.NVIDIA].devices[0].id == "GPU-2"


def test_cards_and_partitions_of_amd() -> None:
    """ROCm/k8s-gpu-dra-driver#21, docs/driver-attributes.md."""
    whole = device("gpu-0-128", memory=64 * GIB, type="amdgpu", productName="AMD_Instinct_MI210")
    part = device(
        "gpu-32-160",
        memory=98296 * 1024**2,
        type="amdgpu-partition",
        productName="AMD_Instinct_MI300X_OAM",
        partitionProfile="dpx_nps1",
    )
    possible = device("gpu-0-cpx-nps4", memory=24 * GIB, type="amdgpu-partition", computePartition="cpx")
    told = slices_told([published(whole, part, possible, driver="gpu.amd.com")])[Vendor.AMD]
    assert [(each.product, each.mig_profile, each.memory_bytes) for each in told.devices] == [
        ("AMD-Instinct-MI210", "", 64 * GIB),
        ("AMD-Instinct-MI300X-OAM", "dpx_nps1", 98296 * 1024**2),
    ]


def test_memory_that_a_driver_could_not_read_is_told_as_that() -> None:
    """ROCm/k8s-gpu-dra-driver: docs/driver-attributes.md."""
    told = slices_told([published(device("gpu-0-128", memory=0, type="amdgpu"), driver="gpu.amd.com")])[Vendor.AMD]
    assert told.devices == ()
    assert told.ambiguities == ("the driver publishes no memory of gpu-0-128",)


def test_only_the_newest_generation_of_a_pool_counts_and_only_when_it_is_whole() -> None:
    older = published(card(0), card(1))
    newest = replace(published(card(0), generation=2), slices=2)
    told = slices_told([older, newest])[Vendor.NVIDIA]
    assert told.devices == ()
    assert told.ambiguities == ("1 of the 2 ResourceSlices of gpu.nvidia.com, pool n, are there",)
    whole = slices_told([older, newest, replace(newest, devices=(card(1),))])[Vendor.NVIDIA]
    assert [each.id for each in whole.devices] == ["GPU-0", "GPU-1"]


def test_drivers_of_other_things_are_passed_over() -> None:
    assert slices_told([published(device("nic-0", memory=1), driver="dra.net")]) == {}
