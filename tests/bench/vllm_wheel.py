"""What a wheel of vLLM says of itself, beside what our table says of that version.

    python -m tests.bench.vllm_wheel vllm-0.33.0-….whl

Nothing of it is installed or run: its Python is read for what it checks when it starts. Run it with every new version,
and for a line that differs a row gets an ``until`` and a new one is written.
"""

from __future__ import annotations

import ast
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from roadstead.planner.suitability.rows import Backend, Version, version_of
from roadstead.planner.suitability.vllm import TABLE
from roadstead_weights.facts import Scheme

_QUANTIZATION: Final = "vllm/model_executor/layers/quantization"
_SCHEMES: Final = f"{_QUANTIZATION}/compressed_tensors/schemes/compressed_tensors"
_MARLIN: Final = "vllm/model_executor/kernels/linear/mixed_precision/marlin.py"
_WHERE: Final[dict[Scheme, tuple[str, ...]]] = {
    Scheme.GPTQ: (_MARLIN,),
    Scheme.AWQ: (f"{_QUANTIZATION}/auto_awq.py", f"{_QUANTIZATION}/awq_marlin.py"),
    Scheme.FP8: (f"{_QUANTIZATION}/fp8.py",),
    Scheme.INT8: (f"{_SCHEMES}_w8a8_int8.py",),
    Scheme.NVFP4: (f"{_SCHEMES}_w4a4_nvfp4.py",),
    Scheme.MXFP4: (f"{_QUANTIZATION}/mxfp4.py",),
    Scheme.MXFP8: (f"{_SCHEMES}_w8a8_mxfp8.py",),
    Scheme.BITSANDBYTES: (f"{_QUANTIZATION}/bitsandbytes.py",),
    Scheme.GGML: (f"{_QUANTIZATION}/gguf.py",),
}
"""By scheme the files that say the least compute capability, the newest name first."""
_BUILT_FOR: Final = 75
"""Wheels have no kernels for older devices, whatever a file says."""
_LISTED: Final = {
    "awq": Scheme.AWQ, "gptq": Scheme.GPTQ, "fp8": Scheme.FP8, "mxfp4": Scheme.MXFP4, "mxfp8": Scheme.MXFP8,
    "modelopt_fp4": Scheme.NVFP4, "bitsandbytes": Scheme.BITSANDBYTES,
}  # fmt: skip
"""Words of a platform's list; INT8 is in none of its own."""
_PLATFORMS: Final = {Backend.ROCM: "vllm/platforms/rocm.py", Backend.SYCL: "vllm/platforms/xpu.py"}


def main(wheel: Path) -> int:
    """The table on stdout; how many lines differ."""
    version = version_of(wheel.name.removeprefix("vllm-"))
    with zipfile.ZipFile(wheel) as archive:
        lines = [*_capabilities(archive, version), *_platforms(archive, version)]
    print(f"{'':24}{'the wheel':28}our table")
    for what, theirs, ours in lines:
        print(f"{what:24}{theirs:28}{ours}{'' if theirs == ours else '   <- differs'}")
    return sum(theirs != ours for _, theirs, ours in lines)


def _capabilities(archive: zipfile.ZipFile, version: Version) -> Iterator[tuple[str, str, str]]:
    """The least compute capability for each scheme, or that a plugin must bring it."""
    for scheme, names in _WHERE.items():
        found = [least for name in names for least in _least(archive, name)]
        rows = [
            row
            for row in TABLE.rows
            if row.backend is Backend.CUDA and scheme in row.schemes and row.holds_for(version)
        ]
        ours = min((10 * row.capability[0] + row.capability[1] for row in rows if not row.plugin), default=None)
        theirs = max(min(found), _BUILT_FOR) if found else None
        if scheme is Scheme.GGML and theirs is not None:
            continue  # there, and not offered
        yield f"{scheme} with CUDA", str(theirs), str(ours)


def _least(archive: zipfile.ZipFile, name: str) -> Iterator[int]:
    """What each ``get_min_capability`` of a file returns."""
    if name not in archive.namelist():
        return
    for node in ast.walk(ast.parse(archive.read(name))):
        if isinstance(node, ast.FunctionDef) and node.name == "get_min_capability":
            for each in ast.walk(node):
                if isinstance(each, ast.Return) and isinstance(each.value, ast.Constant):
                    yield int(str(each.value.value))


def _platforms(archive: zipfile.ZipFile, version: Version) -> Iterator[tuple[str, str, str]]:
    """Which schemes a platform lets through."""
    for backend, name in _PLATFORMS.items():
        found = re.search(r"supported_quantization: list\[str\] = \[(.*?)\]", archive.read(name).decode(), re.DOTALL)
        if found is None:
            continue
        words = set(re.findall(r'"([^"]+)"', found[1]))
        rows = [row for row in TABLE.rows if row.backend is backend and row.holds_for(version)]
        for word, scheme in _LISTED.items():
            ours = any(scheme in row.schemes for row in rows)
            yield f"{scheme} with {backend}", str(word in words), str(ours)


if __name__ == "__main__":
    sys.exit(min(1, main(Path(sys.argv[1]))))
