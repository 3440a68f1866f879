"""What Transformers can do, the fallback: nearly every format, often by decompressing it to 16 bits first.

Read in transformers 5.24.0 (``quantizers/``) and gptqmodel 7.7.0, which is what runs AWQ and GPTQ since version 5.
"""

from __future__ import annotations

from typing import Final

from roadstead.planner.suitability.rows import Backend, PartitionRow, Row, Spread, Table
from roadstead_weights.facts import Scheme

_OLDEST: Final = (5,)
_INT4: Final = (Scheme.GPTQ, Scheme.AWQ)
_QUANTIZERS: Final = "transformers 5.24.0: quantizers"
_GPTQMODEL: Final = "gptqmodel 7.7.0: gptqmodel/nn_modules/qlinear"
_TORCH: Final = "pytorch/pytorch#157517 (wheels are built for compute capability 7.5 and up)"
_TO_16_BITS: Final = "decompressed to bfloat16 when it is loaded"
_EACH_TIME: Final = "decompressed for each product"

TABLE: Final = Table(
    spread=Spread.LAYERS,
    rows=(
        Row(backend=Backend.CUDA, schemes=(Scheme.PLAIN,), since=_OLDEST, capability=(7, 5), source=_TORCH),
        Row(backend=Backend.ROCM, schemes=(Scheme.PLAIN,), since=_OLDEST, source="pytorch.org: ROCm wheels"),
        Row(backend=Backend.SYCL, schemes=(Scheme.PLAIN,), since=_OLDEST, source="pytorch.org: XPU wheels"),
        Row(backend=Backend.CPU, schemes=(Scheme.PLAIN,), since=_OLDEST, source="pytorch.org: CPU wheels"),
        Row(
            backend=Backend.CUDA,
            schemes=_INT4,
            since=_OLDEST,
            capability=(7, 5),
            plugin="gptqmodel",
            source=f"{_QUANTIZERS}/quantizer_awq.py, quantizer_gptq.py; {_GPTQMODEL}/marlin.py",
        ),
        Row(
            backend=Backend.CPU,
            schemes=_INT4,
            since=_OLDEST,
            isa=("avx512_bf16",),
            bits=(4,),
            plugin="gptqmodel",
            source=f"{_GPTQMODEL}/torch_cpu_avx512.py",
        ),
        Row(
            backend=Backend.CPU,
            schemes=_INT4,
            since=_OLDEST,
            isa=("avx2",),
            bits=(4,),
            groups=(32, 64, 128, 256),
            plugin="gptqmodel",
            slow="by PyTorch's own product of 4 bits: no AVX-512 with bfloat16",
            source=f"{_GPTQMODEL}/torch_aten_kernel.py",
        ),
        Row(
            backend=Backend.CUDA,
            schemes=(Scheme.FP8,),
            since=_OLDEST,
            capability=(8, 9),
            source=f"{_QUANTIZERS}/quantizer_finegrained_fp8.py (validate_environment)",
        ),
        Row(
            backend=Backend.CUDA,
            schemes=(Scheme.FP8,),
            since=_OLDEST,
            capability=(7, 5),
            slow=_TO_16_BITS,
            held_bits=16,
            source=f"{_QUANTIZERS}/quantizer_finegrained_fp8.py (validate_environment)",
        ),
        Row(
            backend=Backend.SYCL,
            schemes=(Scheme.FP8,),
            since=_OLDEST,
            source=f"{_QUANTIZERS}/quantizer_finegrained_fp8.py (is_torch_xpu_available)",
        ),
        Row(
            backend=Backend.CPU,
            schemes=(Scheme.FP8,),
            since=_OLDEST,
            slow=_TO_16_BITS,
            held_bits=16,
            source=f"{_QUANTIZERS}/quantizer_finegrained_fp8.py (validate_environment)",
        ),
        Row(
            backend=Backend.CUDA,
            schemes=(Scheme.MXFP4,),
            since=_OLDEST,
            capability=(7, 5),
            plugin="kernels",
            source=f"{_QUANTIZERS}/quantizer_mxfp4.py (validate_environment)",
        ),
        *(
            Row(
                backend=backend,
                schemes=(Scheme.MXFP4,),
                since=_OLDEST,
                capability=least,
                slow=_TO_16_BITS,
                held_bits=16,
                source=f"{_QUANTIZERS}/quantizer_mxfp4.py (validate_environment)",
            )
            for backend, least in ((Backend.CUDA, (7, 5)), (Backend.SYCL, (0, 0)), (Backend.CPU, (0, 0)))
        ),
        Row(
            backend=Backend.CUDA,
            schemes=(Scheme.BITSANDBYTES,),
            since=_OLDEST,
            capability=(7, 5),
            plugin="bitsandbytes",
            slow=_EACH_TIME,
            source=f"{_QUANTIZERS}/quantizer_bnb_4bit.py (validate_environment)",
        ),
        *(
            Row(
                backend=backend,
                schemes=(Scheme.INT8,),
                since=_OLDEST,
                capability=least,
                plugin="compressed-tensors",
                slow=_EACH_TIME,
                source=f"{_QUANTIZERS}/quantizer_compressed_tensors.py (validate_environment)",
            )
            for backend, least in ((Backend.CUDA, (7, 5)), (Backend.CPU, (0, 0)))
        ),
        *(
            Row(
                backend=backend,
                schemes=(Scheme.GGML,),
                since=_OLDEST,
                capability=least,
                plugin="gguf",
                slow="decompressed to float32 when it is loaded",
                held_bits=32,
                source=f"{_QUANTIZERS}/quantizer_gguf.py (validate_environment)",
            )
            for backend, least in ((Backend.CUDA, (7, 5)), (Backend.CPU, (0, 0)))
        ),
    ),
    partitions=(
        PartitionRow(
            backends=(Backend.CUDA, Backend.CPU),
            schemes=_INT4,
            whole_groups=True,
            source=f"{_GPTQMODEL}/torch_cpu_avx512.py (in_features % group_size == 0)",
        ),
    ),
)
