"""ResourceSlices (``resource.k8s.io/v1``): what drivers of dynamic resource allocation publish about a node's devices.

Only slices of one node are read, as drivers of GPUs write them. Quantities and attributes that cannot be understood
are left out one by one: a driver may publish things that we have no use for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from roadstead.adapters.kube.api import Object
from roadstead.adapters.kube.quantities import whole_bytes
from roadstead.domain.inventory import DeviceSlice, PublishedDevice

PATH: Final = "/apis/resource.k8s.io/v1/resourceslices"
_KINDS_OF_VALUE: Final = ("string", "version", "int", "bool")


def device_slice(obj: Object) -> DeviceSlice:
    """A ResourceSlice; its ``node`` is empty if it belongs to none, or to several."""
    spec = obj["spec"]
    pool = spec.get("pool", {})
    driver = spec.get("driver", "")
    return DeviceSlice(
        node=spec.get("nodeName") or "",
        driver=driver,
        pool=pool.get("name", ""),
        generation=pool.get("generation", 0),
        slices=pool.get("resourceSliceCount", 1),
        devices=tuple(_device(device, driver) for device in spec.get("devices") or ()),
    )


def _device(device: Mapping[str, Any], driver: str) -> PublishedDevice:
    own = f"{driver}/"
    return PublishedDevice(
        name=device["name"],
        attributes=tuple(
            sorted(
                (name.removeprefix(own), str(value[kind]))
                for name, value in (device.get("attributes") or {}).items()
                for kind in _KINDS_OF_VALUE
                if kind in value
            )
        ),
        capacity=tuple(sorted((name.removeprefix(own), size) for name, size in _sizes(device.get("capacity") or {}))),
    )


def _sizes(capacity: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    for name, quantity in capacity.items():
        with suppress(ValueError):
            yield name, whole_bytes(quantity["value"])
