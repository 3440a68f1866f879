"""A ResourceSlice as kubernetes-sigs/dra-driver-nvidia-gpu writes it becomes a value."""

from __future__ import annotations

from typing import Any

from roadstead.adapters.kube.device_slices import device_slice
from roadstead.domain.inventory import DeviceSlice, PublishedDevice

SLICE: dict[str, Any] = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceSlice",
    "metadata": {"name": "node-a-gpu.nvidia.com-22vnt", "resourceVersion": "7"},
    "spec": {
        "driver": "gpu.nvidia.com",
        "nodeName": "node-a",
        "pool": {"name": "node-a", "generation": 3, "resourceSliceCount": 2},
        "devices": [
            {
                "name": "gpu-1",
                "attributes": {
                    "type": {"string": "gpu"},
                    "gpu.nvidia.com/productName": {"string": "NVIDIA A100 80GB PCIe"},
                    "cudaComputeCapability": {"version": "8.0.0"},
                    "resource.kubernetes.io/pcieRoot": {"string": "pci0000:00"},
                    "numaNode": {"int": 1},
                },
                "capacity": {"memory": {"value": "80Gi"}, "odd": {"value": "1e3"}},
            }
        ],
    },
}


def test_a_slice_is_its_driver_its_pool_and_its_devices() -> None:
    assert device_slice(SLICE) == DeviceSlice(
        node="node-a",
        driver="gpu.nvidia.com",
        pool="node-a",
        generation=3,
        slices=2,
        devices=(
            PublishedDevice(
                name="gpu-1",
                attributes=(
                    ("cudaComputeCapability", "8.0.0"),
                    ("numaNode", "1"),
                    ("productName", "NVIDIA A100 80GB PCIe"),
                    ("resource.kubernetes.io/pcieRoot", "pci0000:00"),
                    ("type", "gpu"),
                ),
                capacity=(("memory", 80 * 1024**3),),
            ),
        ),
    )


def test_a_slice_of_no_single_node_belongs_to_none() -> None:
    spec = {key: value for key, value in SLICE["spec"].items() if key not in {"nodeName", "devices"}}
    found = device_slice({**SLICE, "spec": {**spec, "allNodes": True}})
    assert (found.node, found.devices) == ("", ())
