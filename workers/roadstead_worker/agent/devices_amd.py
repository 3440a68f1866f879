"""AMD's accelerators, by what the kernel's driver says of them in /sys. No tool is needed.

``amdgpu`` tells memory and names (docs.kernel.org/gpu/amdgpu/driver-misc.html), the compute driver's topology
(``/sys/class/kfd``) the instruction set: ``gfx_target_version 90402`` is gfx942, of the node with the card's render
device. A card in partitions tells the memory of the whole only, so it is told in words and not counted.

Its id is the one that ROCm's runtime takes in ``ROCR_VISIBLE_DEVICES``: ``GPU-`` and the sixteen digits of the card's
unique id (ROCm/ROCR-Runtime: core/runtime/amd_filter_device.cpp). A card without one, as before Vega, has nothing that
stays the same to name it to a process by, so it is told in words as well.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from roadstead_worker.agent.device_reading import DeviceReading, product_name
from roadstead_worker.contract import DeviceState

_ROOT: Final = Path("/")
_CARD: Final = re.compile(r"card\d+")
_RENDER: Final = re.compile(r"renderD(\d+)")
_AMD: Final = "0x1002"
_WHOLE: Final = "SPX"
_UNIQUE: Final = re.compile(r"(?!0+$)[0-9a-f]{16}")


def read_amd(root: Path = _ROOT) -> DeviceReading:
    """Every card of AMD's. ``root`` is that of a file system that holds ``sys``. Raises nothing."""
    folder = root / "sys/class/drm"
    try:
        names = sorted(path.name for path in folder.iterdir() if _CARD.fullmatch(path.name))
    except OSError:
        return DeviceReading()
    architectures = _architectures(root)
    reading = DeviceReading()
    for name in names:
        device = folder / name / "device"
        if _text(device / "vendor") == _AMD:
            reading += _card(name, device, architectures)
    return reading


def _card(name: str, device: Path, architectures: dict[int, str]) -> DeviceReading:
    partition = _text(device / "current_compute_partition")
    if partition not in {"", _WHOLE}:
        return DeviceReading(ambiguities=(f"{name} of AMD is cut in partitions ({partition})",))
    total, used = _text(device / "mem_info_vram_total"), _text(device / "mem_info_vram_used")
    if not total.isdigit() or not used.isdigit():
        return DeviceReading(ambiguities=(f"{name} of AMD does not tell its memory",))
    unique = _text(device / "unique_id")
    if not _UNIQUE.fullmatch(unique):
        return DeviceReading(ambiguities=(f"{name} of AMD has no unique id to name it by",))
    product = _text(device / "product_name") or f"AMD {_text(device / 'device').removeprefix('0x')}"
    render = _render_minor(device)
    state = DeviceState(
        id=f"GPU-{unique}",
        vendor="AMD",
        product=product_name(product),
        memory_bytes=int(total),
        free_bytes=max(0, int(total) - int(used)),
        architecture="" if render is None else architectures.get(render, ""),
    )
    return DeviceReading((state,))


def _render_minor(device: Path) -> int | None:
    try:
        found = [match for path in (device / "drm").iterdir() if (match := _RENDER.fullmatch(path.name))]
    except OSError:
        return None
    return int(found[0].group(1)) if found else None


def _architectures(root: Path) -> dict[int, str]:
    """By the minor number of the render device."""
    found: dict[int, str] = {}
    try:
        nodes = list((root / "sys/class/kfd/kfd/topology/nodes").iterdir())
    except OSError:
        return found
    for node in nodes:
        properties = {
            words[0]: words[1] for line in _text(node / "properties").splitlines() if len(words := line.split()) == 2
        }
        version, render = (properties.get(key, "") for key in ("gfx_target_version", "drm_render_minor"))
        if version.isdigit() and int(version) and render.isdigit():
            found[int(render)] = _gfx(int(version))
    return found


def _gfx(version: int) -> str:
    """90402 is gfx942, 90010 is gfx90a, 110000 is gfx1100."""
    return f"gfx{version // 10_000}{version // 100 % 100:x}{version % 100:x}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
