"""What a model file says about itself, as plain values that travel.

The types are standard-library dataclasses on purpose: agents fill them from a header, the planner computes memory from
them, and the ledger keeps them; none of the three should have to import a parser to name a fact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Format(StrEnum):
    """The container of a set of weights."""

    GGUF = "GGUF"
    SAFETENSORS = "SafeTensors"


class Scheme(StrEnum):
    """How the weights of linear layers are stored, as engines' kernels tell it apart."""

    GGML = "GGML"
    """Blocks, each tensor in its own type."""
    PLAIN = "Plain"
    """Floating point of 16 or 32 bits."""
    GPTQ = "GPTQ"
    AWQ = "AWQ"
    FP8 = "FP8"
    INT8 = "INT8"
    """Weights and activations."""
    NVFP4 = "NVFP4"
    MXFP4 = "MXFP4"
    MXFP8 = "MXFP8"
    BITSANDBYTES = "BitsAndBytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorGroup:
    """All tensors of one element type: what the planner needs in place of the whole tensor table."""

    type: str
    """The format's own name of the element type, e.g. ``Q4_0`` or ``F32``."""
    elements: int
    """Number of weights."""
    bytes: int
    """Bytes these tensors occupy in the file."""
    repackable_bytes: int = 0
    """Of those, bytes of two-dimensional tensors whose rows a CPU backend may rearrange, lookup tables not."""
    looked_up_bytes: int = 0
    """Of the repackable, bytes that are needed unchanged as well: an embedding that is the output head, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The header of a model file, reduced to what capability, memory, speed and quality are computed from.

    Units are bytes and elements. A field a format does not know is 0 or empty, never guessed.
    """

    format: Format
    architecture: str
    name: str
    quantization: str
    """The file's own label (``Q4_1``, ``BF16`` ...). A label, not a quality: mixed files carry the main type's name."""
    file_bytes: int
    tensors: tuple[TensorGroup, ...]
    block_count: int
    context_length: int
    """Longest context the model was trained for, in tokens."""
    embedding_length: int
    feed_forward_length: int
    head_count: int
    head_count_kv: tuple[int, ...]
    """Key/value heads, one number per layer."""
    key_length: int
    value_length: int
    vocabulary_size: int
    vocabulary_merges: int = 0
    """Rules of a byte-pair tokenizer, which an engine keeps in memory; other tokenizers have none."""
    sliding_window: int = 0
    kv_lora_rank: int = 0
    numbers: tuple[tuple[str, int | tuple[int, ...]], ...] = ()
    """All whole numbers that the header says of its architecture, by key without the architecture's name, sorted.

    What an architecture keeps in memory depends on keys that no other has; engines read these, and so do estimates.
    Empty for facts that were kept before it was recorded: then only the named fields are known.
    """
    scheme: Scheme = Scheme.GGML
    dtype: str = ""
    """What the config says it computes in: ``bfloat16``, ``float16``, ``float32``; empty in formats without such."""
    weight_bits: int = 0
    """Of a quantized weight; 0 where tensors differ or nothing is quantized."""
    group_size: int = 0
    """Weights of a row that share a scale; -1: the whole row; 0: none do, or that is the type's own matter."""
    chat_template: bool = False
    """Whether the file carries a chat template; without one only ``Completion`` makes sense."""
    licence: str = ""
    extra: dict[str, str] = field(default_factory=dict, compare=False)
    """Further header keys kept for people (never for decisions)."""

    @property
    def parameters(self) -> int:
        """Number of weights over all tensors."""
        return sum(group.elements for group in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors: what ``mmap`` will make resident."""
        return sum(group.bytes for group in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Mean bits over all weights; the first planner's stand-in for quality."""
        return 8 * self.tensor_bytes / self.parameters if self.parameters else 0.0
