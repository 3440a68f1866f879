"""Instruction sets, from the labels of Node Feature Discovery to the kernel's names.

``feature.node.kubernetes.io/cpu-cpuid.AVX2=true`` (kubernetes-sigs/node-feature-discovery: docs/usage/features.md). By
default F16C and BMI2 are left out there, so that their absence proves nothing; every processor with AVX2 has both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PREFIX: Final = "feature.node.kubernetes.io/cpu-cpuid."
_KERNEL_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "AVX": ("avx",),
    "AVX2": ("avx", "avx2", "bmi2", "f16c"),
    "AVX512BF16": ("avx512_bf16",),
    "AVX512BW": ("avx512bw",),
    "AVX512F": ("avx512f",),
    "AVX512VBMI": ("avx512vbmi",),
    "AVX512VL": ("avx512vl",),
    "AVX512VNNI": ("avx512_vnni",),
    "AVXVNNI": ("avx_vnni",),
    "AMXBF16": ("amx_bf16",),
    "AMXINT8": ("amx_int8",),
    "AMXTILE": ("amx_tile",),
    "FMA3": ("fma",),
    "F16C": ("f16c",),
    "BMI2": ("bmi2",),
    "ASIMD": ("asimd",),
    "ASIMDDP": ("asimddp",),
    "ASIMDHP": ("asimdhp",),
    "SVE": ("sve",),
}


def isa_told(labels: Mapping[str, str]) -> frozenset[str] | None:
    """As the kernel names them; None where no label speaks of the processor."""
    told = [label.removeprefix(_PREFIX) for label in labels if label.startswith(_PREFIX)]
    return frozenset(name for word in told for name in _KERNEL_NAMES.get(word, ())) if told else None
