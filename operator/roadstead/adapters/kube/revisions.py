"""Releases as ControllerRevisions: with these alone the operator can serve, repair and roll back, Postgres or not.

What is stored must be read exactly as it was written, by this version and by every later one. So the stored form has
models of its own, with a format number: renaming a field of the domain must not orphan what is kept in clusters, and a
test holds the fields of both sides together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from roadstead.adapters.kube.api import Object
from roadstead.adapters.kube.resources import API_VERSION, GROUP, LOCAL_MODEL
from roadstead.adapters.kube.store import Unreadable
from roadstead.domain.model import Model, ModelKey
from roadstead.domain.release import Release
from roadstead.domain.slot import shortened
from roadstead_weights.facts import Format, Scheme

MODEL_LABEL = f"{GROUP}/model"
"""On everything that belongs to a model; ``status.selector`` selects by it."""


class Kept(BaseModel):
    """Base of what is stored: camelCase, exact types, nothing unknown."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        from_attributes=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )


class KeptTensorGroup(Kept):
    model_config = ConfigDict(extra="ignore")  # as of all facts, see below

    type: str
    elements: int
    bytes: int
    repackable_bytes: int
    looked_up_bytes: int = 0  # revisions written before it was read lack it


class KeptFacts(Kept):
    """A newer operator may have read more of a header: that is passed over, since it names no content."""

    model_config = ConfigDict(extra="ignore")

    format: Format
    architecture: str
    name: str
    quantization: str
    file_bytes: int
    tensors: tuple[KeptTensorGroup, ...]
    block_count: int
    context_length: int
    embedding_length: int
    feed_forward_length: int
    head_count: int
    head_count_kv: tuple[int, ...]
    key_length: int
    value_length: int
    vocabulary_size: int
    vocabulary_merges: int = 0  # revisions written before it was read lack it
    sliding_window: int
    kv_lora_rank: int
    numbers: tuple[tuple[str, int | tuple[int, ...]], ...] = ()  # likewise
    scheme: Scheme = Scheme.GGML  # likewise, and the next three
    dtype: str = ""
    weight_bits: int = 0
    group_size: int = 0
    chat_template: bool
    licence: str
    extra: dict[str, str]


class KeptArtifact(Kept):
    digest: str
    bytes: int
    facts: KeptFacts


class KeptContent(Kept):
    variant: str
    source: str
    quality: float | None
    artifact: KeptArtifact
    engine: str
    engine_image: str
    engine_args: tuple[str, ...]
    task: str
    served_name: str
    context_tokens: int
    concurrency: int


class KeptRelease(Kept):
    number: int
    contents: tuple[KeptContent, ...]


class Record(KeptRelease):
    """``data`` of a ControllerRevision."""

    format: Literal[1] = 1
    digest: str
    """For people and for comparing; the contents say the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A kept release and the LocalModel object that owns it."""

    name: str
    namespace: str
    owner_uid: str
    release: Release


_RELEASE = TypeAdapter(Release)
_RECORD_ONLY = {"format", "digest"}


def revision_name(model: str, number: int) -> str:
    """``<model>-r<number>``."""
    return f"{model}-r{number}"


def to_record(release: Release) -> Object:
    """``data`` of the ControllerRevision."""
    return Record.model_validate(release).model_dump(mode="json", by_alias=True)


def from_record(data: object) -> Release:
    """The release in ``data``; ``pydantic.ValidationError`` if it is not one of ours."""
    kept = Record.model_validate_json(_as_json(data)).model_dump(exclude=_RECORD_ONLY)
    return _RELEASE.validate_python(kept)


def to_object(model: Model, release: Release) -> Object:
    """The ControllerRevision that keeps ``release`` for as long as the LocalModel object exists."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": revision_name(model.key.name, release.number),
            "namespace": model.key.namespace,
            "labels": {MODEL_LABEL: shortened(model.key.name), "app.kubernetes.io/managed-by": "roadstead"},
            # `controller: true`: else a workload controller whose selector matches could adopt and trim the revision.
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": LOCAL_MODEL.name,
                    "name": model.key.name,
                    "uid": model.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "revision": release.number,
        "data": to_record(release),
    }


def from_object(obj: Object) -> Revision:
    """Read a ControllerRevision; ``Unreadable`` says what is wrong."""
    metadata = obj["metadata"]
    key = ModelKey(metadata["namespace"], metadata["name"])
    owner = next((owner for owner in metadata.get("ownerReferences", ()) if owner.get("controller")), None)
    if owner is None:
        raise Unreadable("it has no owner")
    try:
        release = from_record(obj.get("data"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Unreadable(f"data.{place}: {first['msg']}") from error
    return Revision(name=key.name, namespace=key.namespace, owner_uid=owner["uid"], release=release)


def _as_json(data: object) -> str:
    # Strict reading knows of JSON that lists become tuples and words become enums; of Python values it does not.
    return TypeAdapter(object).dump_json(data).decode()
