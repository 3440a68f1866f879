"""How fast accelerators read and compute, by the name that Kubernetes labels carry.

Figures are those of the makers' data sheets, without sparsity: bytes a second of memory, operations a second of dense
matrices (of GeForce cards those that sum up in 16 bits, twice as many, because engines were seen to reach more than the
others). Memory sizes are not taken from here, but to see what part of a card a slice is. A name that is not known is
not guessed.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from roadstead.domain.inventory import Device, Sharing

_MAKERS: Final = frozenset({"AMD", "HABANA", "INSTINCT", "INTEL", "NVIDIA", "TESLA"})
"""Words before a name that some drivers leave out."""
_SLICE: Final = re.compile(r"(\d+)g\.(\d+)gb", re.IGNORECASE)
_ANOTHER_CARD: Final = frozenset({"LAPTOP", "MAX"})
"""Words behind a name of which the card has no more than the name."""
_MEMORY_SLICES: Final = 8


class DeviceSpeed(NamedTuple):
    """Of one device, or of the part of one that a process gets."""

    bandwidth: float
    """Bytes a second."""
    fp16: float
    """Operations a second; those with 8 bits are the same where a device has none of its own."""
    int8: float
    fp8: float


class _Card(NamedTuple):
    gigabytes_a_second: int
    fp16: int
    """TFLOPS, TOPS."""
    int8: int = 0
    fp8: int = 0
    gigabytes: int = 0
    """Of a card that can be sliced."""
    compute_slices: int = 7


_CARDS: Final = {
    "A2": _Card(200, 18, 36),
    "A10": _Card(600, 125, 250),
    "A10G": _Card(600, 70, 140),
    "A16": _Card(200, 18, 36),
    "A30": _Card(933, 165, 330, gigabytes=24, compute_slices=4),
    "A40": _Card(696, 150, 299),
    "A100": _Card(1555, 312, 624, gigabytes=40),
    "A100-80GB-PCIE": _Card(1935, 312, 624, gigabytes=80),
    "A100-SXM4-80GB": _Card(2039, 312, 624, gigabytes=80),
    "B200": _Card(8000, 2250, 4500, 4500, gigabytes=180),
    "GAUDI2": _Card(2450, 432, fp8=865),
    "GAUDI3": _Card(3700, 1835, fp8=1835),
    "GEFORCE-RTX-3090": _Card(936, 142, 284),
    "GEFORCE-RTX-4090": _Card(1008, 330, 660, 660),
    "GEFORCE-RTX-5090": _Card(1792, 419, 838, 838),
    "GH200-480GB": _Card(4000, 989, 1979, 1979, gigabytes=96),
    "H20": _Card(4000, 148, 296, 296, gigabytes=96),
    "H100-80GB-HBM3": _Card(3350, 989, 1979, 1979, gigabytes=80),
    "H100-NVL": _Card(3938, 835, 1671, 1671, gigabytes=94),
    "H100-PCIE": _Card(2039, 756, 1513, 1513, gigabytes=80),
    "H200": _Card(4800, 989, 1979, 1979, gigabytes=141),
    "L4": _Card(300, 121, 242, 242),
    "L40": _Card(864, 181, 362, 362),
    "L40S": _Card(864, 362, 733, 733),
    "MI210": _Card(1600, 181),
    "MI300X": _Card(5300, 1307, fp8=2615),
    "MI355X": _Card(8000, 2500, fp8=5000),
    "QUADRO-RTX-8000": _Card(672, 130, 261),
    "RTX-6000-ADA-GENERATION": _Card(960, 364, 728, 728),
    "RTX-A5000": _Card(768, 111, 222),
    "RTX-A6000": _Card(768, 155, 310),
    "RTX-PRO-6000-BLACKWELL": _Card(1792, 504, 1007, 1007, gigabytes=96, compute_slices=4),
    "RTX-PRO-6000-BLACKWELL-SERVER-EDITION": _Card(1597, 504, 1007, 1007, gigabytes=96, compute_slices=4),
    "T4": _Card(320, 65, 130),
    "V100": _Card(900, 125),
}
"""By the name without its maker's, upper case; a name with more words behind it is the same card, unless it is here."""


def speed_of(device: Device) -> DeviceSpeed | None:
    """What a process gets of a device; None where the product is not known.

    A slice has its part of memory and compute, a client of MPS as much as every other. In turns, a process that is
    alone has everything: nobody knows who else is there.
    """
    card = _card(device.product)
    if card is None:
        return None
    memory = compute = 1.0
    sliced = _SLICE.search(device.mig_profile) or _SLICE.search(device.product)
    if sliced is not None:
        if not card.gigabytes:
            return None
        memory = max(1, round(_MEMORY_SLICES * int(sliced[2]) / card.gigabytes)) / _MEMORY_SLICES
        compute = int(sliced[1]) / card.compute_slices
    if device.sharing is Sharing.MPS:
        memory, compute = memory / device.clients, compute / device.clients
    tera = compute * 1e12
    return DeviceSpeed(
        bandwidth=memory * card.gigabytes_a_second * 1e9,
        fp16=tera * card.fp16,
        int8=tera * (card.int8 or card.fp16),
        fp8=tera * (card.fp8 or card.fp16),
    )


def _card(product: str) -> _Card | None:
    """The longest name in the table that the product's begins with, word by word."""
    words = re.split(r"[-_ ]+", product.upper())
    while words and words[0] in _MAKERS:
        del words[0]
    for length in range(len(words), 0, -1):
        card = _CARDS.get("-".join(words[:length]))
        if card is not None:
            return None if _ANOTHER_CARD.intersection(words[length:]) else card
    return None
