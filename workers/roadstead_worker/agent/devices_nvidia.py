"""NVIDIA's accelerators, as the driver's own library tells of them. A card in MIG mode is its slices.

A machine without the library has no such devices. One whose library fails has devices that nobody can tell of, which is
said in words. Calls may take milliseconds, and far longer of a card that hangs: call ``read`` in a thread, and never in
two at once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Final

from roadstead_worker.agent.device_reading import DeviceReading, product_name
from roadstead_worker.agent.nvml import FUNCTION_NOT_FOUND, NOT_FOUND, NOT_SUPPORTED, Memory, Nvml, NvmlFailed
from roadstead_worker.contract import DeviceState

LIBRARY: Final = "libnvidia-ml.so.1"
_MIG: Final = " MIG "
"""A slice is named after its card: "NVIDIA A100-SXM4-40GB MIG 1g.5gb"."""


class NvidiaDevices:
    """Loads and starts the library when it is first asked, and again after a failure."""

    def __init__(self, library: str = LIBRARY) -> None:
        self._path = library
        self._nvml: Nvml | None = None

    def read(self) -> DeviceReading:
        """Every device now. Raises nothing that a library may do."""
        try:
            self._nvml = self._nvml or Nvml(self._path)
            count = self._nvml.number("nvmlDeviceGetCount_v2")
        except OSError:
            return DeviceReading()
        except NvmlFailed as error:
            self._nvml = None
            return DeviceReading(ambiguities=(f"NVIDIA's library does not tell of its devices: {error}",))
        reading = DeviceReading()
        for index in range(count):
            reading += _card(self._nvml, index)
        return reading


def _card(nvml: Nvml, index: int) -> DeviceReading:
    try:
        card = nvml.handle("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index))
        capability = _compute_capability(nvml, card)
        parts = _slices(nvml, card) if _in_slices(nvml, card) else (card,)
        return DeviceReading(tuple(_device(nvml, part, capability) for part in parts))
    except NvmlFailed as error:
        return DeviceReading(ambiguities=(f"NVIDIA's library does not tell of device {index}: {error}",))


def _device(nvml: Nvml, handle: ctypes.c_void_p, capability: tuple[int, int]) -> DeviceState:
    memory = Memory()
    nvml.call("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
    product, _, profile = nvml.text("nvmlDeviceGetName", handle).partition(_MIG)
    return DeviceState(
        id=nvml.text("nvmlDeviceGetUUID", handle),
        vendor="NVIDIA",
        product=product_name(product),
        memory_bytes=memory.total,
        free_bytes=memory.free,
        compute_capability=capability,
        mig_profile=profile.strip(),
    )


def _compute_capability(nvml: Nvml, card: ctypes.c_void_p) -> tuple[int, int]:
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvml.call("nvmlDeviceGetCudaComputeCapability", card, ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def _in_slices(nvml: Nvml, card: ctypes.c_void_p) -> bool:
    """Whether MIG is on; most cards do not know it, nor do old drivers."""
    now, after_reset = ctypes.c_uint(), ctypes.c_uint()
    try:
        nvml.call("nvmlDeviceGetMigMode", card, ctypes.byref(now), ctypes.byref(after_reset))
    except NvmlFailed as error:
        if error.code in {NOT_SUPPORTED, FUNCTION_NOT_FOUND}:
            return False
        raise
    return now.value == 1


def _slices(nvml: Nvml, card: ctypes.c_void_p) -> Iterator[ctypes.c_void_p]:
    """Those that were made; their numbers have gaps."""
    for index in range(nvml.number("nvmlDeviceGetMaxMigDeviceCount", card)):
        try:
            yield nvml.handle("nvmlDeviceGetMigDeviceHandleByIndex", card, ctypes.c_uint(index))
        except NvmlFailed as error:
            if error.code != NOT_FOUND:
                raise
