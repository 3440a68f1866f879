"""What one source tells of a node's accelerators, and how its words are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from roadstead.domain.inventory import Device


@dataclass(frozen=True, slots=True)
class Told:
    """By one source, of one vendor or of several."""

    devices: tuple[Device, ...] = ()
    """Only those that are certain."""
    ambiguities: tuple[str, ...] = ()
    """Why others are not."""

    def __add__(self, other: Told) -> Told:
        return Told(self.devices + other.devices, self.ambiguities + other.ambiguities)


def whole_number(words: Mapping[str, str], key: str) -> int | None:
    """Values of labels are text. None if it is missing, or no number."""
    text = words.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else None


def product_name(name: str) -> str:
    """As NVIDIA's labels write it (``NVIDIA-L40S``): blanks become dashes, and AMD's and Intel's underscores too."""
    return "-".join(name.replace("_", " ").split())
