"""What labels tell of a node: as they were published of real ones, each with where that was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from roadstead.domain.inventory import Device, Sharing, Vendor
from roadstead.planner.inventory.labels import inventory_of_labels

MIB = 1024**2
GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Dump:
    """A node as somebody published it."""

    what: str
    source: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, int]
    devices: int
    first: Device


def nvidia(**labels: str) -> dict[str, str]:
    """``gpu_compute_major`` is ``nvidia.com/gpu.compute.major``."""
    return {f"nvidia.com/{name.replace('_', '.')}": value for name, value in labels.items()}


T4 = nvidia(gpu_compute_major="7", gpu_compute_minor="5", gpu_family="turing", gpu_memory="15109", gpu_count="1")
V100 = {
    **nvidia(gpu_compute_major="7", gpu_compute_minor="0", gpu_count="8", gpu_memory="16384", gpu_replicas="1"),
    "nvidia.com/gpu.product": "Tesla-V100-SXM2-16GB-N",
    "nvidia.com/gpu.sharing-strategy": "none",
}
H100_IN_SLICES = {
    **nvidia(gpu_compute_major="9", gpu_compute_minor="0", gpu_count="1", gpu_memory="81559", gpu_replicas="0"),
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.sharing-strategy": "none",
    "nvidia.com/mig.strategy": "mixed",
    **{
        f"nvidia.com/mig-{profile}.{name}": value
        for profile, count, memory in (("1g.10gb", "2", "9984"), ("2g.20gb", "1", "20096"), ("3g.40gb", "1", "40320"))
        for name, value in {
            "count": count,
            "memory": memory,
            "product": f"NVIDIA-H100-80GB-HBM3-MIG-{profile}",
            "replicas": "1",
            "sharing-strategy": "none",
            "slices.gi": profile[0],
        }.items()
    },
}
AMD_PARTITIONED = {
    "beta.amd.com/gpu.cu-count": "38",
    "beta.amd.com/gpu.cu-count.38": "8",
    "beta.amd.com/gpu.device-id": "74a1",
    "beta.amd.com/gpu.device-id.74a1": "1",
    "beta.amd.com/gpu.family.AI": "1",
    "beta.amd.com/gpu.vram": "192G",
    "beta.amd.com/gpu.vram.192G": "1",
}

DUMPS = [
    Dump(
        what="one T4 of a cloud, by an older labeller",
        source="NVIDIA/gpu-operator#334",
        labels={**T4, "nvidia.com/gpu.product": "Tesla-T4", "nvidia.com/mig.strategy": "single"},
        allocatable={"nvidia.com/gpu": 1},
        devices=1,
        first=Device(
            id="gpu-0",
            vendor=Vendor.NVIDIA,
            product="Tesla-T4",
            memory_bytes=15109 * MIB,
            compute_capability=(7, 5),
        ),
    ),
    Dump(
        what="eight V100, and no device plugin yet",
        source="NVIDIA/k8s-device-plugin#503",
        labels=V100,
        allocatable={},
        devices=8,
        first=Device(
            id="gpu-0",
            vendor=Vendor.NVIDIA,
            product="Tesla-V100-SXM2-16GB-N",
            memory_bytes=16 * GIB,
            compute_capability=(7, 0),
        ),
    ),
    Dump(
        what="four T4 in turns, under their own name",
        source="NVIDIA GPU Operator documentation: Time-Slicing GPUs in Kubernetes",
        labels={
            **T4,
            **nvidia(gpu_count="4", gpu_replicas="4", gpu_product="Tesla-T4-SHARED"),
        },
        allocatable={"nvidia.com/gpu": 16},
        devices=4,
        first=Device(
            id="gpu-0",
            vendor=Vendor.NVIDIA,
            product="Tesla-T4",
            memory_bytes=15109 * MIB,
            compute_capability=(7, 5),
            sharing=Sharing.TIME_SLICING,
            clients=4,
        ),
    ),
    Dump(
        what="four T4 for four clients of MPS each, under a name of their own",
        source="NVIDIA GPU Operator documentation: MPS GPU Sharing",
        labels={
            **T4,
            **nvidia(gpu_count="4", gpu_replicas="4", gpu_product="Tesla-T4"),
            "nvidia.com/gpu.sharing-strategy": "mps",
        },
        allocatable={"nvidia.com/gpu": 0, "nvidia.com/gpu.shared": 16},
        devices=4,
        first=Device(
            id="gpu-0",
            vendor=Vendor.NVIDIA,
            product="Tesla-T4",
            memory_bytes=15109 * MIB,
            compute_capability=(7, 5),
            sharing=Sharing.MPS,
            clients=4,
        ),
    ),
    Dump(
        what="one H100 cut in unlike slices",
        source="NVIDIA/cloud-native-docs: gpu-operator/manifests/output/mig-mixed-node-labels.json",
        labels=H100_IN_SLICES,
        allocatable={
            "nvidia.com/gpu": 0,
            "nvidia.com/mig-1g.10gb": 2,
            "nvidia.com/mig-2g.20gb": 1,
            "nvidia.com/mig-3g.40gb": 1,
        },
        devices=4,
        first=Device(
            id="mig-1g.10gb-0",
            vendor=Vendor.NVIDIA,
            product="NVIDIA-H100-80GB-HBM3",
            memory_bytes=9984 * MIB,
            compute_capability=(9, 0),
            mig_profile="1g.10gb",
        ),
    ),
    Dump(
        what="four A100 that are one slice each",
        source="prem-research/prem-operator#39",
        labels={
            **nvidia(gpu_count="4", gpu_replicas="0", gpu_memory="40960", gpu_product="NVIDIA-A100-SXM4-40GB"),
            "nvidia.com/mig-7g.40gb.count": "4",
            "nvidia.com/mig-7g.40gb.memory": "40192",
            "nvidia.com/mig-7g.40gb.product": "NVIDIA-A100-SXM4-40GB-MIG-7g.40gb",
            "nvidia.com/mig-7g.40gb.replicas": "1",
        },
        allocatable={},
        devices=4,
        first=Device(
            id="mig-7g.40gb-0",
            vendor=Vendor.NVIDIA,
            product="NVIDIA-A100-SXM4-40GB",
            memory_bytes=40192 * MIB,
            mig_profile="7g.40gb",
        ),
    ),
    Dump(
        what="an MI25 by the labeller that puts the value in the key",
        source="ROCm/k8s-device-plugin: cmd/k8s-node-labeller/README.md",
        labels={
            "beta.amd.com/gpu.cu-count.64": "1",
            "beta.amd.com/gpu.device-id.6860": "1",
            "beta.amd.com/gpu.family.AI": "1",
            "beta.amd.com/gpu.simd-count.256": "1",
            "beta.amd.com/gpu.vram.16G": "1",
        },
        allocatable={"amd.com/gpu": 1},
        devices=1,
        first=Device(id="amd-0", vendor=Vendor.AMD, product="AMD-6860", memory_bytes=16 * GIB),
    ),
    Dump(
        what="eight MI300X by the labeller that puts it in the value",
        source="ROCm/gpu-operator#151",
        labels={
            "amd.com/gpu.cu-count": "304",
            "amd.com/gpu.device-id": "74a1",
            "amd.com/gpu.driver-version": "6.8.5",
            "amd.com/gpu.family": "AI",
            "amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM",
            "amd.com/gpu.vram": "192G",
        },
        allocatable={"amd.com/gpu": 8},
        devices=8,
        first=Device(id="amd-0", vendor=Vendor.AMD, product="AMD-Instinct-MI300X-OAM", memory_bytes=192 * GIB),
    ),
]


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.what)
def test_a_published_node_is_read_as_it_was(dump: Dump) -> None:
    found = inventory_of_labels(dump.labels, dump.allocatable)
    assert found.ambiguities == ()
    assert found.devices[0] == dump.first
    assert len(found.devices) == len({device.id for device in found.devices}) == dump.devices


CONTRADICTIONS = [
    (
        "three cards of three types, of which labels describe one (NVIDIA/gpu-feature-discovery#66)",
        nvidia(gpu_count="1", gpu_memory="10240", gpu_product="NVIDIA-GeForce-RTX-3080", gpu_replicas="1"),
        {"nvidia.com/gpu": 3},
        "labels tell of 1 NVIDIA-GeForce-RTX-3080, and 3 nvidia.com/gpu are offered",
    ),
    (
        "fifty clients where labels say one (NVIDIA/k8s-device-plugin#732)",
        nvidia(gpu_count="1", gpu_memory="23028", gpu_product="NVIDIA-A10G", gpu_replicas="1"),
        {"nvidia.com/gpu": 0, "nvidia.com/gpu.shared": 50},
        "labels tell of 1 NVIDIA-A10G, and 50 nvidia.com/gpu are offered",
    ),
    (
        "sharing that has not come into force",
        nvidia(gpu_count="2", gpu_memory="23034", gpu_product="NVIDIA-L4-SHARED", gpu_replicas="4"),
        {"nvidia.com/gpu": 2},
        "labels tell of 2 NVIDIA-L4-SHARED for 4 clients each, and 2 nvidia.com/gpu are offered",
    ),
    (
        "slices that the single strategy cannot name (NVIDIA/gpu-operator#479)",
        nvidia(gpu_count="0", gpu_memory="0", gpu_product="NVIDIA-A100-SXM4-80GB-MIG-INVALID", gpu_replicas="0"),
        {"nvidia.com/gpu": 0},
        "nvidia.com/gpu.product is NVIDIA-A100-SXM4-80GB-MIG-INVALID",
    ),
    (
        "a card whose memory the labeller could not read",
        nvidia(gpu_count="1", gpu_product="NVIDIA-GB10", gpu_replicas="1"),
        {"nvidia.com/gpu": 1},
        "labels tell of 1 NVIDIA-GB10 and not of their memory",
    ),
    (
        "eight partitions, and the memory of the one card they are of (ROCm/k8s-device-plugin#108)",
        AMD_PARTITIONED,
        {"amd.com/gpu": 8},
        "labels tell of 1 AMD-74a1 with 192G, and 8 amd.com/gpu are offered",
    ),
    (
        "AMD cards with different memory",
        {"beta.amd.com/gpu.vram.16G": "2", "beta.amd.com/gpu.vram.32G": "1"},
        {"amd.com/gpu": 3},
        "labels tell of AMD with 16G and 32G of memory each",
    ),
    (
        "AMD cards of which nobody says how many",
        {"amd.com/gpu.vram": "192G", "amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"},
        {},
        "labels tell of AMD-Instinct-MI300X-OAM and not of how many, and no amd.com/gpu is offered",
    ),
    (
        "Intel GPUs (intel/intel-device-plugins-for-kubernetes: cmd/gpu_plugin/labels.md)",
        {"gpu.intel.com/device.count": "2", "gpu.intel.com/product": "Max_1550"},
        {"gpu.intel.com/i915": 2},
        "labels tell of 2 Intel Max-1550 and not of their memory",
    ),
    ("Gaudi", {}, {"habana.ai/gaudi": 8}, "8 habana.ai/gaudi are offered, and nothing tells of their memory"),
]


@pytest.mark.parametrize(
    ("labels", "allocatable", "why"), [case[1:] for case in CONTRADICTIONS], ids=[case[0] for case in CONTRADICTIONS]
)
def test_what_contradicts_itself_or_is_not_told_is_left_out_and_said(
    labels: dict[str, str], allocatable: dict[str, int], why: str
) -> None:
    found = inventory_of_labels(labels, allocatable)
    assert found.devices == ()
    (told,) = found.ambiguities
    assert why in told


def test_of_a_node_with_one_uncertain_kind_the_others_are_certain() -> None:
    found = inventory_of_labels(H100_IN_SLICES, {"nvidia.com/mig-1g.10gb": 7, "nvidia.com/mig-3g.40gb": 1})
    assert [device.mig_profile for device in found.devices] == ["2g.20gb", "3g.40gb"]
    assert found.ambiguities == (
        "labels tell of 2 NVIDIA-H100-80GB-HBM3-MIG-1g.10gb, and 7 nvidia.com/mig-1g.10gb are offered",
    )


def test_beside_slices_only_the_cards_that_are_offered_are_whole() -> None:
    labels = {**H100_IN_SLICES, "nvidia.com/gpu.count": "8"}
    found = inventory_of_labels(labels, {"nvidia.com/gpu": 6})
    assert sum(not device.mig_profile for device in found.devices) == 6
    assert found.ambiguities == ()
    impossible = inventory_of_labels(labels, {"nvidia.com/gpu": 9})
    assert not any(not device.mig_profile for device in impossible.devices)
    assert impossible.ambiguities == ("labels tell of 8 cards, cut ones included, and 9 nvidia.com/gpu are offered",)


def test_intel_gpus_with_a_label_of_their_memory_are_devices() -> None:
    labels = {
        "gpu.intel.com/device.count": "2",
        "gpu.intel.com/product": "Flex_170",
        "gpu.intel.com/memory.max": str(32 * GIB),
    }
    found = inventory_of_labels(labels, {"gpu.intel.com/i915": 4})
    assert [(device.product, device.memory_bytes, device.clients) for device in found.devices] == [
        ("Flex-170", 16 * GIB, 2),
        ("Flex-170", 16 * GIB, 2),
    ]


def test_instruction_sets_have_the_kernels_names_and_avx2_brings_what_nfd_leaves_out() -> None:
    prefix = "feature.node.kubernetes.io/cpu-cpuid."
    labels = {f"{prefix}{word}": "true" for word in ("ADX", "AVX", "AVX2", "AVX512F", "AVX512VNNI", "FMA3")}
    isa = inventory_of_labels(labels, {}).isa
    assert isa == frozenset({"avx", "avx2", "bmi2", "f16c", "avx512f", "avx512_vnni", "fma"})


def test_a_node_without_labels_says_nothing_about_its_processor_and_has_no_devices() -> None:
    found = inventory_of_labels({"kubernetes.io/arch": "amd64"}, {"example.com/fpga": 1})
    assert (found.isa, found.devices, found.ambiguities) == (None, (), ())
