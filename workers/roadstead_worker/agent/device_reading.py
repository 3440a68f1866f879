"""What a reader of accelerators found, and how it names products."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from roadstead_worker.contract import DeviceState

_NOT_IN_LABELS: Final = re.compile(r"[^A-Za-z0-9-. ]")


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """At one moment."""

    devices: tuple[DeviceState, ...] = ()
    ambiguities: tuple[str, ...] = ()
    """What could not be read, in words. What it is about is not in ``devices``."""

    def __add__(self, other: DeviceReading) -> DeviceReading:
        return DeviceReading(self.devices + other.devices, self.ambiguities + other.ambiguities)


def product_name(name: str) -> str:
    """As NVIDIA's labels on nodes write it: ``NVIDIA L40S`` is ``NVIDIA-L40S``."""
    return "-".join(_NOT_IN_LABELS.sub("", name.replace("_", " ")).split())
