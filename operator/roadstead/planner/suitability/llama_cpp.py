"""What llama.cpp can do: files of its own format, and those nearly everywhere.

Every type of a GGUF file runs on every backend, so what decides is how the build was made: for which compute
capabilities (CUDA 13 compiles for none below 7.5) and which instruction sets.
"""

from __future__ import annotations

from typing import Final

from roadstead.planner.suitability.rows import Backend, Row, Spread, Table
from roadstead_weights.facts import Scheme

_GGML: Final = (Scheme.GGML,)
_BUILD: Final = "ggml-org/llama.cpp:docs/build.md"

TABLE: Final = Table(
    spread=Spread.LAYERS,
    rows=(
        Row(backend=Backend.CUDA, schemes=_GGML, source=f"{_BUILD} (CUDA; -DCMAKE_CUDA_ARCHITECTURES)"),
        Row(backend=Backend.ROCM, schemes=_GGML, source=f"{_BUILD} (HIP; -DGPU_TARGETS)"),
        Row(backend=Backend.SYCL, schemes=_GGML, source="ggml-org/llama.cpp:docs/backend/SYCL.md (verified devices)"),
        Row(
            backend=Backend.VULKAN,
            schemes=_GGML,
            slow="by Vulkan, which has no kernels of the device's vendor",
            source=f"{_BUILD} (Vulkan)",
        ),
        Row(
            backend=Backend.CPU,
            schemes=_GGML,
            isa=("avx2",),
            source="ggml-org/llama.cpp:ggml/src/ggml-cpu/repack.cpp (ggml_repack_get_optimal_repack_type)",
        ),
        Row(
            backend=Backend.CPU,
            schemes=_GGML,
            isa=("asimddp",),
            source="ggml-org/llama.cpp:ggml/src/ggml-cpu/repack.cpp (ggml_repack_get_optimal_repack_type)",
        ),
        Row(
            backend=Backend.CPU,
            schemes=_GGML,
            slow="neither AVX2 nor the dot products of Arm: matrices are not rearranged",
            source="ggml-org/llama.cpp:ggml/src/ggml-cpu/repack.cpp (ggml_repack_get_optimal_repack_type)",
        ),
    ),
)
