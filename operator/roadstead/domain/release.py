"""Artifacts, contents and releases: what was resolved once and can be served again.

A :class:`Content` is what an engine serves, wherever it runs; its hash names slots, so a release that changes one
rung of the ladder leaves the slots of the others alone. A :class:`Release` is the set of contents its ladder could
run; it is immutable and numbered within the model's lineage. Policy (replicas, placement) is in neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from roadstead_weights.facts import ModelFacts


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Artifact:
    """The files of a variant, named by digest.

    Its facts are most of what a fleet's releases take in memory, and all releases of a model tend to name the same few:
    see :func:`shared`.
    """

    digest: str
    """``sha256:<64 hex>``."""
    bytes: int
    facts: ModelFacts

    def __reduce__(self) -> tuple[Callable[..., Artifact], tuple[str, int, ModelFacts]]:
        return (_travelled, (self.digest, self.bytes, self.facts))


_ARTIFACTS: WeakValueDictionary[str, Artifact] = WeakValueDictionary()


def shared(artifact: Artifact) -> Artifact:
    """The one object that stands for this artifact in the process, as long as anybody has it."""
    known = _ARTIFACTS.get(artifact.digest)
    if known == artifact and known.facts.extra == artifact.facts.extra:
        return known
    _ARTIFACTS[artifact.digest] = artifact
    return artifact


def _travelled(digest: str, size: int, facts: ModelFacts) -> Artifact:
    """From another process."""
    return shared(Artifact(digest=digest, bytes=size, facts=facts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One rung of a release: everything that decides what an engine answers, and nothing that does not."""

    variant: str
    source: str
    """Where the artifact came from. Not part of the hash: the same bytes from elsewhere are the same content."""
    quality: float | None
    """The spec's figure when the release was made. Policy, not part of the hash."""
    artifact: Artifact
    engine: str
    engine_image: str
    engine_args: tuple[str, ...] = ()
    task: str
    served_name: str
    context_tokens: int
    concurrency: int
    hash: str = field(init=False, compare=False, repr=False)
    """Sixty-four hex digits over what the engine serves."""

    def __post_init__(self) -> None:
        """The hash is asked for far more often than a content is made."""
        served = {
            "artifact": self.artifact.digest,
            "concurrency": self.concurrency,
            "contextTokens": self.context_tokens,
            "engine": self.engine,
            "engineArgs": list(self.engine_args),
            "engineImage": self.engine_image,
            "servedName": self.served_name,
            "task": self.task,
        }
        object.__setattr__(self, "hash", _digest(served))
        object.__setattr__(self, "artifact", shared(self.artifact))

    def __hash__(self) -> int:
        return hash(self.hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A numbered set of contents. Repair and rollback pick only from these."""

    number: int
    contents: tuple[Content, ...]
    digest: str = field(init=False, compare=False, repr=False)
    """``sha256:...`` over the hashes of the contents."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", contents_digest(self.contents))


def contents_digest(contents: tuple[Content, ...]) -> str:
    """The name of a set of contents: equal sets in any order have equal digests."""
    return "sha256:" + _digest(sorted({content.hash for content in contents}))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
