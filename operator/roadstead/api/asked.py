"""What the read API is asked in a body: sources may carry credentials, and an address ends up in logs.

What is told of a model file has the limits of the header reader, which a file cannot exceed.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from roadstead.domain.model import ModelKey
from roadstead_weights.facts import Format, ModelFacts, Scheme, TensorGroup

NAME: Final = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?"
NOBODY: Final = ModelKey("-", "file")
"""A model that is asked about by its file alone. It is none of the fleet: there can be no such namespace."""
_BYTES: Final = 2**53
_NUMBER: Final = 2**31
_LAYERS: Final = 4_096

Spec = Annotated[dict[str, Any], Field(description="`spec` of a LocalModel, read as the operator reads it.")]
NodeName = Annotated[str, Field(pattern=f"^{NAME}$", max_length=253)]
NodeAndNumber = Annotated[str, Field(pattern=f"^{NAME}(:[1-9][0-9]{{0,2}})?$", max_length=257)]


class Asked(BaseModel):
    """Base of everything that is asked in a body. A field that there is not is an error: it would go unnoticed."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )


class Manifest(Asked):
    """A LocalModel as somebody might apply it."""

    namespace: Annotated[str, Field(pattern=f"^{NAME}$", max_length=63)] = "default"
    name: Annotated[str, Field(pattern=f"^{NAME}$", max_length=253)]
    spec: Spec


class Supposed(Asked):
    """A change of the fleet that nobody has made."""

    drain: Annotated[tuple[NodeName, ...], Field(max_length=64)] = Field(
        default=(), description="Nodes that would take nothing more and give up what they have."
    )
    add: Annotated[tuple[NodeAndNumber, ...], Field(max_length=64)] = Field(
        default=(), description="NODE or NODE:NUMBER: so many empty nodes like that one, beside it."
    )
    apply: Annotated[tuple[Manifest, ...], Field(max_length=64)] = Field(
        default=(), description="LocalModels that would be there, or be otherwise."
    )


class FitOfManifest(Manifest):
    """Where would this LocalModel run?"""


class FitOfSource(Asked):
    """Where would the file behind this source run?"""

    source: Annotated[str, Field(max_length=2048, description="`file:///…` on a node, or `https://…`.")]
    requirements: Spec = Field(default_factory=dict, description="As `spec.requirements` of a LocalModel.")


class Tensors(Asked):
    """All tensors of one element type."""

    type: Annotated[str, Field(max_length=64)]
    elements: Annotated[int, Field(ge=0, le=_BYTES)]
    bytes: Annotated[int, Field(ge=0, le=_BYTES)]
    repackable_bytes: Annotated[int, Field(ge=0, le=_BYTES)] = 0
    looked_up_bytes: Annotated[int, Field(ge=0, le=_BYTES)] = 0


Count = Annotated[int, Field(ge=0, le=_NUMBER)]
Number = Annotated[int, Field(ge=-_NUMBER, le=_NUMBER)]
Numbers = Annotated[tuple[Number, ...], Field(max_length=_LAYERS)]
Counts = Annotated[tuple[Count, ...], Field(max_length=_LAYERS)]


class Header(Asked):
    """What the header of a model file says, as the command that read it understood it."""

    format: Format
    architecture: Annotated[str, Field(max_length=64)]
    name: Annotated[str, Field(max_length=1024)] = ""
    quantization: Annotated[str, Field(max_length=64)]
    file_bytes: Annotated[int, Field(ge=0, le=_BYTES)]
    tensors: Annotated[tuple[Tensors, ...], Field(max_length=64)]
    block_count: Annotated[int, Field(ge=0, le=_LAYERS)]
    context_length: Count
    embedding_length: Count
    feed_forward_length: Count
    head_count: Count
    head_count_kv: Counts
    key_length: Count
    value_length: Count
    vocabulary_size: Count
    vocabulary_merges: Count = 0
    sliding_window: Count = 0
    kv_lora_rank: Count = 0
    numbers: Annotated[
        tuple[tuple[Annotated[str, Field(max_length=128)], Number | Numbers], ...], Field(max_length=128)
    ] = ()
    scheme: Scheme = Scheme.GGML
    dtype: Annotated[str, Field(max_length=64)] = ""
    weight_bits: Annotated[int, Field(ge=0, le=64)] = 0
    group_size: Annotated[int, Field(ge=-1, le=_NUMBER)] = 0
    chat_template: bool = False

    def facts(self) -> ModelFacts:
        """As the planner takes them."""
        said: dict[str, Any] = dict(self)
        tensors = tuple(TensorGroup(**dict(group)) for group in self.tensors)
        return ModelFacts(**(said | {"tensors": tensors}))


class FitOfHeader(Asked):
    """Where would a file with this header run?"""

    header: Header
    requirements: Spec = Field(default_factory=dict, description="As `spec.requirements` of a LocalModel.")
