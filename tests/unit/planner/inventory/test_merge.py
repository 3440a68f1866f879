"""Who is believed when several tell of one node."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roadstead.domain.inventory import Device, DeviceSlice, PublishedDevice, Sharing, Vendor
from roadstead.domain.snapshot import AgentFacts, Node
from roadstead.planner.inventory.merge import inventory_of

GIB = 1024**3
LABELS = {
    "nvidia.com/gpu.count": "4",
    "nvidia.com/gpu.memory": "46068",
    "nvidia.com/gpu.product": "NVIDIA-L40S",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "9",
    "feature.node.kubernetes.io/cpu-cpuid.AVX2": "true",
}
AGENT = AgentFacts(
    epoch=1,
    cores=16,
    isa=("avx2", "avx512f"),
    budget_bytes=64 * GIB,
    free_bytes=60 * GIB,
    disk_free_bytes=500 * GIB,
    engines=(),
    weights=(),
    leases=(),
    memory_bandwidth=90e9,
)


def node(offered: int | None = 4, **labels: str) -> Node:
    words = {**LABELS, **{name.replace("_", "."): value for name, value in labels.items()}}
    allocatable = (("nvidia.com/gpu", offered),) if offered is not None else ()
    return Node(name="n", labels=tuple(sorted(words.items())), ready=True, allocatable=allocatable)


def seen(index: int, *, product: str = "NVIDIA-L40S", memory: int = 46068 * 1024**2) -> Device:
    return Device(
        id=f"GPU-{index}", vendor=Vendor.NVIDIA, product=product, memory_bytes=memory, free_bytes=memory - GIB
    )


def driver(*memory: int, product: str = "NVIDIA L40S") -> DeviceSlice:
    devices = tuple(
        PublishedDevice(
            name=f"gpu-{index}",
            attributes=(("productName", product), ("type", "gpu"), ("uuid", f"GPU-{index}")),
            capacity=(("memory", size),),
        )
        for index, size in enumerate(memory)
    )
    return DeviceSlice(node="n", driver="gpu.nvidia.com", pool="n", generation=1, slices=1, devices=devices)


def test_a_node_without_an_agent_is_what_its_labels_say_and_the_rest_is_not_told() -> None:
    found = inventory_of(node())
    assert [device.product for device in found.devices] == ["NVIDIA-L40S"] * 4
    assert found.isa == frozenset({"avx", "avx2", "bmi2", "f16c"})
    assert (found.cores, found.memory_bytes, found.disk_bytes, found.memory_bandwidth) == (None, None, None, None)


def test_where_an_agent_runs_it_is_the_truth_also_where_the_cluster_offers_another_number() -> None:
    agent = replace(AGENT, devices=(seen(0), seen(1, product="NVIDIA-A2", memory=15 * GIB)))
    found = inventory_of(node(offered=7), agent=agent)
    assert found.devices == agent.devices
    assert found.ambiguities == ()
    assert (found.cores, found.memory_bytes, found.disk_bytes, found.memory_bandwidth) == (
        16,
        64 * GIB,
        500 * GIB,
        90e9,
    )
    assert found.isa == frozenset({"avx2", "avx512f"})


def test_an_agent_that_cannot_tell_the_instruction_sets_leaves_them_to_labels() -> None:
    assert inventory_of(node(), agent=replace(AGENT, isa=())).isa == frozenset({"avx", "avx2", "bmi2", "f16c"})


@pytest.mark.parametrize(("strategy", "sharing"), [("mps", Sharing.MPS), ("time-slicing", Sharing.TIME_SLICING)])
def test_how_a_card_is_shared_is_taken_from_labels_because_the_agent_cannot_see_it(
    strategy: str, sharing: Sharing
) -> None:
    shared = {"nvidia.com/gpu_replicas": "3", "nvidia.com/gpu_product": "NVIDIA-L40S-SHARED"}
    described = node(offered=12, **shared)
    labels = tuple(sorted((*described.labels, ("nvidia.com/gpu.sharing-strategy", strategy))))
    agent = replace(AGENT, devices=(seen(0), seen(1, product="NVIDIA-A2")))
    found = inventory_of(replace(described, labels=labels), agent=agent)
    assert [(device.sharing, device.clients) for device in found.devices] == [(sharing, 3), (Sharing.NONE, 1)]
    assert [device.free_bytes for device in found.devices] == [device.free_bytes for device in agent.devices]


def test_what_an_agent_read_and_could_not_make_sense_of_is_passed_on() -> None:
    agent = replace(AGENT, ambiguities=("NVML does not tell of device 3: GPU is lost",))
    assert inventory_of(node(), agent=agent).ambiguities == agent.ambiguities


def test_an_agent_that_sees_no_device_where_others_tell_of_some_is_not_overruled_and_it_is_said() -> None:
    found = inventory_of(node(), agent=AGENT)
    assert found.devices == ()
    assert found.ambiguities == (
        "labels or drivers tell of 4 NVIDIA-L40S, and the agent sees none: it needs the driver's library",
    )


def test_what_is_uncertain_of_devices_that_an_agent_cannot_see_is_said() -> None:
    gaudi = Node(name="n", labels=(), ready=True, allocatable=(("habana.ai/gaudi", 8),))
    found = inventory_of(gaudi, agent=AGENT)
    assert found.ambiguities == ("8 habana.ai/gaudi are offered, and nothing tells of their memory",)


def test_a_driver_stands_above_labels_so_that_a_node_of_mixed_types_is_told_right() -> None:
    mixed = replace(driver(46068 * 1024**2), pool="a")
    other = replace(driver(23034 * 1024**2, product="NVIDIA L4"), pool="b")
    assert inventory_of(node(offered=7)).devices == (), "labels alone contradict what is offered"
    found = inventory_of(node(offered=7), slices=[mixed, other])
    assert [device.product for device in found.devices] == ["NVIDIA-L40S", "NVIDIA-L4"]
    assert found.ambiguities == ()


@pytest.mark.parametrize(("memory", "alike"), [(46068, True), (45200, True), (45000, False), (49140, False)])
def test_memory_that_differs_by_more_than_two_in_a_hundred_is_a_contradiction(memory: int, alike: bool) -> None:
    found = inventory_of(node(), slices=[driver(memory * 1024**2)])
    assert bool(found.devices) is alike
    if not alike:
        (told,) = found.ambiguities
        assert told == f"NVIDIA-L40S has {memory / 1024:.1f} GiB in its ResourceSlice and 45.0 GiB in labels"


def test_a_node_whose_labels_contradict_each_other_is_used_only_for_what_is_certain() -> None:
    described = node(offered=3)
    labels = (*described.labels, ("amd.com/gpu.vram", "64G"))
    found = inventory_of(replace(described, labels=labels, allocatable=(("amd.com/gpu", 2), ("nvidia.com/gpu", 3))))
    assert [device.vendor for device in found.devices] == [Vendor.AMD, Vendor.AMD]
    assert found.ambiguities == ("labels tell of 4 NVIDIA-L40S, and 3 nvidia.com/gpu are offered",)
    assert found.isa is not None
