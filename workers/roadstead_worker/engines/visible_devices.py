"""Which accelerators an engine may see: exactly those of its group, by the variables of each vendor's runtime.

Both variables are always set: not set they mean "all", empty they mean "none", for CUDA (its programming guide, under
``CUDA_VISIBLE_DEVICES``) and for ROCm's runtime (ROCm/ROCR-Runtime: core/util/flag.h and
core/runtime/amd_filter_device.cpp). HIP looks at CUDA's variable as well, but not at an empty one (ROCm/clr:
rocclr/device/rocm/rocdevice.cpp). An id that is wrong shows nothing, never another card.

Ids are as the node agent tells them. Those of both vendors begin with ``GPU-``; NVIDIA's go on with a UUID in its five
parts (or begin with ``MIG-``), AMD's with sixteen digits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_AMD: Final = re.compile(r"GPU-[0-9a-f]{16}")


def is_amd(device: str) -> bool:
    """Whether an accelerator is AMD's, by its id; else it is NVIDIA's."""
    return _AMD.fullmatch(device) is not None


def visible(devices: Sequence[str]) -> dict[str, str]:
    """The environment of a process that sees these accelerators and no other, in this order."""
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(device for device in devices if not is_amd(device)),
        "ROCR_VISIBLE_DEVICES": ",".join(device for device in devices if is_amd(device)),
    }
