"""Writes a GGUF file again in another quantization, to have a second variant of a model at hand.

``python tools/requantize.py IN.gguf OUT.gguf Q8_0``. BF16, F16, Q8_0, Q5_1, Q5_0, Q4_1 and Q4_0 can be written; the
``gguf`` package has no K-quants. Going from few bits to more brings no quality back: this is for trying out how
variants are placed, not for serving people.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np

TYPES = ("BF16", "F16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
OWN_KEYS = frozenset({"GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture"})
"""Written by the writer itself."""


def requantize(source: Path, target: Path, quantization: str) -> None:
    """Write ``source`` to ``target`` with every quantized matrix in ``quantization``; vectors stay as they are."""
    reader = gguf.GGUFReader(source)
    wanted = gguf.GGMLQuantizationType[quantization]
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name not in OWN_KEYS:
            _copy(writer, name, field, file_type=gguf.LlamaFileType[_file_type(quantization)])
    matrices = {tensor.name for tensor in reader.tensors if len(tensor.shape) > 1}
    for tensor in reader.tensors:
        if tensor.name not in matrices:
            writer.add_tensor(tensor.name, np.asarray(tensor.data), raw_dtype=tensor.tensor_type)
            continue
        plain = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        writer.add_tensor(tensor.name, gguf.quantize(plain, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _file_type(quantization: str) -> str:
    return f"MOSTLY_{quantization}"


def _copy(writer: Any, name: str, field: Any, *, file_type: int) -> None:  # noqa: ANN401 - gguf has no types
    value = int(file_type) if name == "general.file_type" else field.contents()
    kind = field.types[0]
    items = field.types[-1] if kind is gguf.GGUFValueType.ARRAY else None
    writer.add_key_value(name, value, kind, sub_type=items)


def main(arguments: list[str]) -> int:
    """Exit status 2 says that the command was not understood."""
    match arguments:
        case [source, target, quantization] if quantization in TYPES and Path(source).is_file():
            requantize(Path(source), Path(target), quantization)
            return 0
    print(f"usage: requantize.py IN.gguf OUT.gguf {{{','.join(TYPES)}}}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
