"""Writes images as OCI image layouts in one tar archive, which `ctr images import` and `skopeo` read.

The index names each manifest twice for containerd, by tag and by digest: a Pod may then name the image by digest
without a registry ever having been asked. Only the manifest is what the digest is of; names and order of the archive
are not in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tools.images.catalog import USER, Image
from tools.images.layers import Blob, source_date_epoch

_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True)
class Layer:
    """A blob and the words that say what is in it."""

    blob: Blob
    made_by: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A finished image: its manifest and its configuration, both as bytes, and its layers."""

    manifest: bytes
    config: bytes
    layers: tuple[Layer, ...]

    @property
    def digest(self) -> str:
        """What a Pod names the image by."""
        return _digest(self.manifest)

    @property
    def size(self) -> int:
        """Bytes that a node has to fetch."""
        return len(self.manifest) + len(self.config) + sum(layer.blob.size for layer in self.layers)


def labels(image: Image, *, version: str, revision: str, source: str | None, variant: str | None) -> dict[str, str]:
    """The labels and annotations of an image, in OCI's own words."""
    found = {
        "org.opencontainers.image.title": image.title,
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.revision": revision,
        "org.opencontainers.image.licenses": image.licences,
        "org.opencontainers.image.created": _created(),
    }
    if source:
        found["org.opencontainers.image.source"] = source
    return found | ({"dev.roadstead.variant": variant} if variant else {})


def manifest_of(image: Image, layers: Sequence[Layer], words: Mapping[str, str]) -> Manifest:
    """Put an image together; equal arguments give an equal digest."""
    config: dict[str, Any] = {
        "User": f"{USER}:{USER}",
        "Env": [f"{name}={value}" for name, value in sorted(image.variables.items())],
        "WorkingDir": "/",
        "Labels": dict(words),
        "StopSignal": image.stop_signal,
    }
    if image.entrypoint:
        config["Entrypoint"] = list(image.entrypoint)
    if image.command:
        config["Cmd"] = list(image.command)
    if image.ports:
        config["ExposedPorts"] = {f"{port}/tcp": {} for port in image.ports}
    config_bytes = _json({
        "architecture": "amd64",
        "os": "linux",
        "created": _created(),
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.blob.digest for layer in layers]},
        "history": [{"created": _created(), "created_by": layer.made_by} for layer in layers],
    })  # fmt: skip
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor(_CONFIG, config_bytes),
        "layers": [
            {"mediaType": _LAYER, "digest": layer.blob.digest, "size": layer.blob.size} for layer in layers
        ],
        "annotations": dict(words),
    }  # fmt: skip
    return Manifest(manifest=_json(manifest), config=config_bytes, layers=tuple(layers))


def write_archive(image: Manifest, path: Path, *, names: Sequence[str]) -> None:
    """Write the layout; `names` are full references (`docker.io/roadstead/worker-cpu:0.1.0`)."""
    entry = _descriptor(_MANIFEST, image.manifest) | {"platform": {"architecture": "amd64", "os": "linux"}}
    index = {
        "schemaVersion": 2,
        "mediaType": _INDEX,
        "manifests": [
            entry
            | {
                "annotations": {
                    "io.containerd.image.name": name,
                    "org.opencontainers.image.ref.name": name.rpartition("@" if "@" in name else ":")[2],
                }
            }
            for name in names
        ],
    }
    small = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": _json(index),
        _blob_path(image.digest): image.manifest,
        _blob_path(_digest(image.config)): image.config,
    }
    large = {_blob_path(layer.blob.digest): layer.blob.path for layer in image.layers}
    partial = path.with_name(f".{path.name}.partial")
    with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in small.items():
            archive.addfile(_member(name, len(content)), io.BytesIO(content))
        for name, blob in sorted(large.items()):
            with blob.open("rb") as content_file:
                archive.addfile(_member(name, blob.stat().st_size), content_file)
    partial.rename(path)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, source_date_epoch()
    return member


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _blob_path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _created() -> str:
    return datetime.fromtimestamp(source_date_epoch(), tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
