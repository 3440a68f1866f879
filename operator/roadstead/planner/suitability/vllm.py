"""What vLLM can do, as the code in its wheels from 0.20.2 to 0.33.0 checks it, which is not what its documents say.

The published table of hardware wants Ampere for Marlin; ``get_min_capability`` has said 7.5 all along. Wheels are built
for compute capability 7.5 and up, whatever a quantization says of itself (GPTQ: 6.0). ``bitsandbytes`` left the core in
0.28, GGUF in 0.24; before that GGUF was there and slow, and is not offered: llama.cpp reads such files.

Sources name files of the wheel, below ``vllm/``; ``python -m tests.bench.vllm_wheel WHEEL`` holds a wheel against the
table.
"""

from __future__ import annotations

from typing import Final

from roadstead.planner.suitability.rows import Backend, DtypeRow, PartitionRow, Row, Spread, Table
from roadstead_weights.facts import Scheme

_OLDEST: Final = (0, 20)
"""Nothing is known of versions before it."""
_PLAIN: Final = (Scheme.PLAIN,)
_INT4: Final = (Scheme.GPTQ, Scheme.AWQ)
_QUANTIZATION: Final = "vllm 0.33.0: model_executor/layers/quantization"
_KERNELS: Final = "vllm 0.33.0: model_executor/kernels/linear"
_CHOICE: Final = f"{_KERNELS}/__init__.py"
_ROCM: Final = "vllm 0.33.0: platforms/rocm.py"
_XPU: Final = "vllm 0.33.0: platforms/xpu.py (supported_quantization)"
_GAUDI: Final = "vllm-project/vllm-gaudi:vllm_gaudi/platform.py (supported_quantization)"
_GAUDI_NOTES: Final = "vllm-project/vllm-gaudi:docs/release_notes.md"
_CDNA_RDNA: Final = ("gfx90a", "gfx94", "gfx95", "gfx11", "gfx12")
_WEIGHTS_ONLY: Final = "Marlin, weights only: they are smaller, and computed with in 16 bits"
_EMULATED: Final = "emulated: decompressed for each product"

_CUDA: Final = (
    Row(
        backend=Backend.CUDA,
        schemes=_PLAIN,
        since=_OLDEST,
        capability=(7, 5),
        source="vllm 0.33.0: _C_stable_libtorch.abi3.so (its kernels: sm_75 to sm_120); pytorch/pytorch#157517",
    ),
    Row(
        backend=Backend.CUDA,
        schemes=(Scheme.GPTQ,),
        since=_OLDEST,
        capability=(7, 5),
        bits=(4, 8),
        groups=(-1, 32, 64, 128),
        source=f"{_KERNELS}/mixed_precision/marlin.py (get_min_capability, MARLIN_SUPPORTED_GROUP_SIZES)",
    ),
    Row(
        backend=Backend.CUDA,
        schemes=(Scheme.AWQ,),
        since=_OLDEST,
        capability=(7, 5),
        bits=(4,),
        groups=(-1, 32, 64, 128),
        source=f"{_QUANTIZATION}/auto_awq.py (get_min_capability)",
    ),
    Row(
        backend=Backend.CUDA,
        schemes=(Scheme.FP8,),
        since=_OLDEST,
        capability=(8, 9),
        source=f"{_QUANTIZATION}/compressed_tensors/schemes/compressed_tensors_w8a8_fp8.py (get_min_capability)",
    ),
    Row(
        backend=Backend.CUDA,
        schemes=(Scheme.FP8,),
        since=_OLDEST,
        capability=(7, 5),
        slow=_WEIGHTS_ONLY,
        source=f"{_QUANTIZATION}/fp8.py (get_min_capability); {_KERNELS}/scaled_mm/marlin.py",
    ),
    Row(
        backend=Backend.CUDA,
        schemes=(Scheme.INT8,),
        since=_OLDEST,
        capability=(7, 5),
        below=(10, 0),
        source="vllm 0.33.0: compressed_tensors_w8a8_int8.py (get_min_capability); "
        "_C_stable_libtorch.abi3.so ('Int8 not supported on SM' 10.0)",
    ),
    Row(
        backend=Backend.CUDA,
        schemes=(Scheme.NVFP4,),
        since=_OLDEST,
        capability=(10, 0),
        source=f"{_KERNELS}/nvfp4/flashinfer.py (is_supported: 10.0, 10.3, 12.x)",
    ),
    Row(
        backend=Backend.CUDA,
        schemes=(Scheme.NVFP4,),
        since=_OLDEST,
        capability=(7, 5),
        slow=_WEIGHTS_ONLY,
        source=f"{_QUANTIZATION}/modelopt.py (ModelOptNvFp4Config.get_min_capability)",
    ),
    Row(
        backend=Backend.CUDA,
        schemes=(Scheme.MXFP4,),
        since=_OLDEST,
        capability=(10, 0),
        below=(11, 0),
        source="vllm 0.33.0: model_executor/layers/fused_moe/oracle/mxfp4.py (_get_priority_backends: 12.x by Marlin)",
    ),
    Row(
        backend=Backend.CUDA,
        schemes=(Scheme.MXFP4,),
        since=_OLDEST,
        capability=(8, 0),
        slow=_WEIGHTS_ONLY,
        source=f"{_QUANTIZATION}/mxfp4.py (get_min_capability)",
    ),
    Row(
        backend=Backend.CUDA,
        schemes=(Scheme.MXFP8,),
        since=_OLDEST,
        capability=(10, 0),
        source=f"{_KERNELS}/mxfp8/flashinfer.py (is_supported)",
    ),
    Row(
        backend=Backend.CUDA,
        schemes=(Scheme.MXFP8,),
        since=_OLDEST,
        capability=(7, 5),
        slow=_WEIGHTS_ONLY,
        source=f"{_QUANTIZATION}/compressed_tensors/schemes/compressed_tensors_w8a8_mxfp8.py (get_min_capability)",
    ),
    Row(
        backend=Backend.CUDA,
        schemes=(Scheme.BITSANDBYTES,),
        since=_OLDEST,
        until=(0, 28),
        capability=(7, 5),
        slow=_EMULATED,
        source="vllm 0.27.1: model_executor/layers/quantization/bitsandbytes.py",
    ),
    Row(
        backend=Backend.CUDA,
        schemes=(Scheme.BITSANDBYTES,),
        since=(0, 28),
        capability=(7, 5),
        plugin="vllm-bnb-plugin",
        slow=_EMULATED,
        source="vllm 0.28.0: model_executor/layers/quantization (bitsandbytes.py is gone); vllm-project/vllm#43529",
    ),
    Row(
        backend=Backend.CUDA,
        schemes=(Scheme.GGML,),
        since=(0, 24),
        capability=(7, 5),
        plugin="vllm-gguf-plugin",
        slow=_EMULATED,
        source="vllm 0.24.0: model_executor/layers/quantization (gguf.py is gone); vllm-project/vllm#39583",
    ),
)

_AMD: Final = (
    Row(
        backend=Backend.ROCM,
        schemes=_PLAIN,
        since=_OLDEST,
        architectures=_CDNA_RDNA,
        source=f"{_ROCM} (on_cdna, on_rdna)",
    ),
    Row(
        backend=Backend.ROCM,
        schemes=_INT4,
        since=_OLDEST,
        architectures=_CDNA_RDNA,
        bits=(4, 8),
        slow="by Triton or Exllama: Marlin is for CUDA",
        source=f"{_ROCM} (supported_quantization); {_CHOICE} (_POSSIBLE_KERNELS)",
    ),
    Row(
        backend=Backend.ROCM,
        schemes=(Scheme.FP8,),
        since=_OLDEST,
        architectures=("gfx94", "gfx95", "gfx12"),
        source=f"{_KERNELS}/scaled_mm/pytorch.py (_rocm_torch_fp8_scaled_mm_supported)",
    ),
    Row(
        backend=Backend.ROCM,
        schemes=(Scheme.INT8,),
        since=_OLDEST,
        architectures=_CDNA_RDNA,
        slow="by Triton, where AITER is not switched on",
        source=f"{_CHOICE} (_POSSIBLE_INT8_KERNELS)",
    ),
    Row(
        backend=Backend.ROCM,
        schemes=(Scheme.NVFP4,),
        since=_OLDEST,
        architectures=_CDNA_RDNA,
        slow=_EMULATED,
        source=f"{_CHOICE} (_POSSIBLE_NVFP4_KERNELS)",
    ),
    *(
        row
        for scheme, since, listed in (
            (Scheme.MXFP4, _OLDEST, "vllm 0.20.2: platforms/rocm.py (supported_quantization)"),
            (Scheme.MXFP8, (0, 23), "vllm 0.23.0: platforms/rocm.py (supported_quantization)"),
        )
        for row in (
            Row(
                backend=Backend.ROCM,
                schemes=(scheme,),
                since=since,
                architectures=("gfx95",),
                source=f"{listed}; {_ROCM} (supports_mx)",
            ),
            Row(
                backend=Backend.ROCM,
                schemes=(scheme,),
                since=since,
                architectures=_CDNA_RDNA,
                slow=_EMULATED,
                source=f"{listed}; {_CHOICE} (the last of its kernels)",
            ),
        )
    ),
    Row(
        backend=Backend.ROCM,
        schemes=(Scheme.BITSANDBYTES,),
        since=_OLDEST,
        until=(0, 28),
        architectures=_CDNA_RDNA,
        slow=_EMULATED,
        source="vllm 0.23.0: platforms/rocm.py (supported_quantization)",
    ),
)

_INTEL: Final = (
    Row(backend=Backend.SYCL, schemes=_PLAIN, since=_OLDEST, source="vllm 0.33.0: platforms/xpu.py"),
    Row(backend=Backend.SYCL, schemes=_INT4, since=(0, 27), bits=(4,), source=f"{_XPU}; mixed_precision/xpu.py"),
    Row(
        backend=Backend.SYCL,
        schemes=(Scheme.FP8,),
        since=(0, 27),
        slow="weights only: they are smaller, and computed with in 16 bits",
        source=f"{_XPU}; {_CHOICE} (XPUW8A16FP8LinearKernel comes first)",
    ),
    Row(
        backend=Backend.SYCL,
        schemes=(Scheme.MXFP4, Scheme.MXFP8),
        since=(0, 27),
        slow="weights only: they are smaller, and computed with in 16 bits",
        source=f"{_XPU}; {_CHOICE} (_POSSIBLE_MXFP4_KERNELS)",
    ),
    Row(
        backend=Backend.SYCL,
        schemes=(Scheme.INT8,),
        since=(0, 27),
        slow="by Triton",
        source=f"{_XPU}; {_CHOICE} (_POSSIBLE_INT8_KERNELS)",
    ),
)

_HABANA: Final = (
    Row(backend=Backend.HPU, schemes=_PLAIN, since=_OLDEST, plugin="vllm-gaudi", source=_GAUDI),
    Row(backend=Backend.HPU, schemes=(Scheme.FP8,), since=_OLDEST, plugin="vllm-gaudi", source=_GAUDI),
    Row(
        backend=Backend.HPU,
        schemes=_INT4,
        since=_OLDEST,
        plugin="vllm-gaudi",
        bits=(4,),
        slow=_EMULATED,
        source=f"{_GAUDI}: awq_hpu, gptq_hpu; vllm-project/vllm-gaudi#56",
    ),
    Row(
        backend=Backend.HPU,
        schemes=(Scheme.INT8,),
        since=(0, 21),
        plugin="vllm-gaudi",
        slow="falls back to bfloat16",
        held_bits=16,
        source=f"{_GAUDI_NOTES} (0.21.0: W8A8 INT8 with BF16 fallback)",
    ),
    Row(
        backend=Backend.HPU,
        schemes=(Scheme.MXFP4,),
        since=_OLDEST,
        plugin="vllm-gaudi",
        slow="decompressed to bfloat16 when it is loaded",
        held_bits=16,
        source=f"{_GAUDI_NOTES} (0.17.1: MxFP4 weight loading and dequantization)",
    ),
)

_ON_CPU: Final = (
    *(
        row
        for schemes, bits, source in (
            (_PLAIN, (), "vllm 0.33.0: platforms/cpu.py (import_kernels: _C_AVX512, _C_AVX2, Arm's _C)"),
            (_INT4, (4,), f"{_KERNELS}/mixed_precision/cpu.py (CPUWNA16LinearKernel)"),
            ((Scheme.INT8,), (), f"{_KERNELS}/scaled_mm/cpu.py (CPUInt8ScaledMMLinearKernel)"),
        )
        for row in (
            Row(backend=Backend.CPU, schemes=schemes, since=_OLDEST, bits=bits, isa=("avx512f",), source=source),
            Row(backend=Backend.CPU, schemes=schemes, since=_OLDEST, bits=bits, isa=("asimd",), source=source),
            Row(
                backend=Backend.CPU,
                schemes=schemes,
                since=_OLDEST,
                bits=bits,
                isa=("avx2",),
                slow="by AVX2; vLLM recommends AVX-512",
                source=f"{source}; docs.vllm.ai: getting_started/installation/cpu (avx512f recommended)",
            ),
        )
    ),
    Row(
        backend=Backend.CPU,
        schemes=(Scheme.FP8,),
        since=(0, 23),
        isa=("amx_tile",),
        source=f"{_KERNELS}/scaled_mm/cpu.py (is_supported: requires AMX tile support)",
    ),
    Row(
        backend=Backend.CPU,
        schemes=(Scheme.MXFP4,),
        since=(0, 23),
        isa=("amx_tile",),
        source="vllm 0.33.0: model_executor/layers/fused_moe/experts/cpu_moe.py (CPUExpertsMxfp4)",
    ),
)

TABLE: Final = Table(
    spread=Spread.TENSORS,
    own_processes=1,
    rows=(*_CUDA, *_AMD, *_INTEL, *_HABANA, *_ON_CPU),
    dtypes=(
        DtypeRow(
            dtype="bfloat16",
            instead="float16",
            backend=Backend.CUDA,
            below=(8, 0),
            source="vllm 0.33.0: platforms/cuda.py (check_if_supports_dtype)",
        ),
        DtypeRow(
            dtype="float16",
            instead="bfloat16",
            backend=Backend.CUDA,
            models=("gemma2", "gemma3", "gemma3_text", "glm4"),
            source="vllm 0.33.0: config/model.py (_FLOAT16_NOT_SUPPORTED_MODELS)",
        ),
    ),
    partitions=(
        PartitionRow(
            backends=(Backend.CUDA, Backend.ROCM, Backend.SYCL, Backend.HPU, Backend.CPU),
            schemes=_INT4,
            whole_groups=True,
            source="vllm 0.33.0: distributed/utils.py (verify_group_size_divides_partition)",
        ),
        PartitionRow(
            backends=(Backend.CUDA, Backend.ROCM, Backend.SYCL, Backend.HPU, Backend.CPU),
            schemes=(Scheme.FP8,),
            whole_groups=True,
            whole_blocks=True,
            source=f"{_QUANTIZATION}/utils/fp8_utils.py (validate_fp8_block_shape)",
        ),
        PartitionRow(
            backends=(Backend.CUDA,),
            schemes=_INT4,
            until=(0, 24),
            inputs=128,
            outputs=64,
            source="vllm 0.23.0: model_executor/layers/quantization/utils/marlin_utils.py "
            "(GPTQ_MARLIN_MIN_THREAD_K, GPTQ_MARLIN_MIN_THREAD_N)",
        ),
        PartitionRow(
            backends=(Backend.CUDA,),
            schemes=_INT4,
            since=(0, 24),
            inputs=128,
            outputs=64,
            padded="filled up with zeros for Marlin",
            source="vllm 0.24.0: model_executor/layers/quantization/utils/marlin_utils.py (marlin_padded_nk)",
        ),
        PartitionRow(
            backends=(Backend.CPU,),
            schemes=_INT4,
            inputs=32,
            outputs=32,
            source=f"{_KERNELS}/mixed_precision/cpu.py (can_implement)",
        ),
        PartitionRow(
            backends=(Backend.SYCL,),
            schemes=_INT4,
            inputs=32,
            source=f"{_KERNELS}/mixed_precision/xpu.py (can_implement)",
        ),
    ),
)
