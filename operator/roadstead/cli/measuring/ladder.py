"""The variants that a LocalModel serves, the files of them on this machine, and the proof that these are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from roadstead.cli.failures import CommandError
from roadstead.cli.kube import KubeApi, Object
from roadstead.cli.local_models import revisions
from roadstead.domain.quantity import in_words
from roadstead.embedded.progress import Progress

_CHUNK_BYTES: Final = 8 << 20
_GGUF: Final = "GGUF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One GGUF variant of the release that is served."""

    variant: str
    source: str
    digest: str
    bytes: int
    architecture: str
    vocabulary_size: int
    quality: float
    """As status has it."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """What is to be measured against what."""

    base: Rung
    """The largest file: of one model's variants that is the most precise."""
    others: tuple[Rung, ...]
    """The larger first."""
    kept: frozenset[str]
    """Digests of all kept releases: records of others are forgotten."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A file that has been read through and is what is served."""

    path: Path
    identity: tuple[int, ...]

    @contextmanager
    def unchanged(self) -> Iterator[Path]:
        """The path; ``CommandError`` ``DigestDiffers`` if the file was written to since it was read through."""
        yield self.path
        if _identity(self.path) != self.identity:
            raise CommandError(
                "DigestDiffers",
                f"{self.path} was changed while it was measured.",
                remedy="Run the command again when nobody writes to it.",
            )


def ladder_of(kube: KubeApi, model: Object, *, only: tuple[str, ...]) -> Ladder:
    """Of the release that is served; ``CommandError`` if there is nothing to compare."""
    key = f"{model['metadata']['namespace']}/{model['metadata']['name']}"
    kept = [revision.get("data") or {} for revision in revisions(kube, model)]
    status = model.get("status") or {}
    number = (status.get("release") or {}).get("number")
    release = next((each for each in kept if each.get("number") == number), None)
    if release is None:
        raise CommandError(
            "NoRelease",
            f"{key} has no release yet, so what its variants are is not known.",
            remedy=f"`roadstead plan {key}` says what it waits for.",
        )
    qualities = {row.get("name"): row.get("quality") for row in status.get("variants") or ()}
    rungs = _rungs(release, qualities)
    unknown = sorted(set(only) - {rung.variant for rung in rungs})
    if unknown:
        raise CommandError(
            "NoSuchVariant",
            f"{key} serves no GGUF variant {', '.join(unknown)}.",
            remedy=f"It has {', '.join(rung.variant for rung in rungs) or 'none'}.",
        )
    others = tuple(rung for rung in rungs[1:] if not only or rung.variant in only)
    if not others:
        raise CommandError(
            "NothingToMeasure",
            f"{key} has no variant that could be measured against a better one.",
            remedy="Variants are measured against the largest GGUF of the same LocalModel: give it a second one.",
        )
    base = rungs[0]
    for rung in others:
        _require_same_model(base, rung)
    digests = frozenset(content["artifact"]["digest"] for each in kept for content in each.get("contents", ()))
    return Ladder(base, others, digests)


def find_file(rung: Rung, named: Mapping[str, Path]) -> Path:
    """Where the variant lies on this machine; ``CommandError`` ``FileMissing``."""
    parts = urlsplit(rung.source)
    path = named.get(rung.variant)
    if path is None and parts.scheme == "file":
        path = Path(unquote(parts.path))
    if path is None:
        place = f"{parts.scheme}://{parts.netloc}{parts.path}"
        raise CommandError(
            "FileMissing",
            f"{rung.variant} comes from {place}, which this command does not fetch.",
            remedy=f"Download it, and name the file: --file {rung.variant}=PATH.",
        )
    if not path.is_file():
        raise CommandError(
            "FileMissing",
            f"{rung.variant}: there is no file {path} on this machine.",
            remedy=f"Run the command where it is, or name a copy: --file {rung.variant}=PATH.",
        )
    return path


def verified(rung: Rung, path: Path, progress: Progress) -> Weights:
    """Read the file through; ``CommandError`` ``DigestDiffers`` unless it is what the release serves."""
    try:
        identity = _identity(path)
        digest = f"sha256:{_sha256(rung, path, progress)}"
    except OSError as error:
        raise CommandError(
            "FileMissing",
            f"{rung.variant}: {path} cannot be read: {error.strerror}.",
            remedy=f"Make it readable, or name a copy: --file {rung.variant}=PATH.",
        ) from error
    if digest != rung.digest:
        raise CommandError(
            "DigestDiffers",
            f"{path} is not what is served as {rung.variant}: it has the digest {digest}, the release {rung.digest}.",
            remedy=f"Name the file that is served: --file {rung.variant}=PATH.",
        )
    return Weights(path, identity)


def _rungs(release: Object, qualities: Mapping[str, float | None]) -> list[Rung]:
    """Each file once, the largest first."""
    found: dict[str, Rung] = {}
    for content in release.get("contents", ()):
        artifact = content["artifact"]
        facts = artifact["facts"]
        quality = qualities.get(content["variant"])
        if facts["format"] == _GGUF and quality is not None:
            rung = Rung(
                variant=content["variant"],
                source=content["source"],
                digest=artifact["digest"],
                bytes=artifact["bytes"],
                architecture=facts["architecture"],
                vocabulary_size=facts["vocabularySize"],
                quality=float(quality),
            )
            found.setdefault(rung.digest, rung)
    return sorted(found.values(), key=lambda rung: (-rung.bytes, rung.variant))


def _require_same_model(base: Rung, rung: Rung) -> None:
    """With other words to choose from there is no divergence, and `llama-perplexity` would compute one all the same."""
    for what, one, other in (
        ("architecture", base.architecture, rung.architecture),
        ("size of the vocabulary", base.vocabulary_size, rung.vocabulary_size),
    ):
        if one != other:
            raise CommandError(
                "NotTheSameModel",
                f"{rung.variant} is another model than {base.variant}: their {what} is {other} and {one}.",
                remedy="Leave it out: name those to measure by --variant NAME.",
            )


def _sha256(rung: Rung, path: Path, progress: Progress) -> str:
    state = hashlib.sha256()
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            state.update(chunk)
            done += len(chunk)
            progress.update(f"{rung.variant}: checking that it is what is served, {in_words(done)}")
    return state.hexdigest()


def _identity(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
