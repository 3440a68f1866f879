"""Images of one or a few static programs, as OCI layouts in a tar file: what `ctr images import` takes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAUSE = "roadstead.test/pause:1"
COREDNS = "roadstead.test/coredns:1"
BUSYBOX = "roadstead.test/busybox:1"
_APPLETS = ("sh", "cat", "echo", "httpd", "id", "ls", "mkdir", "nslookup", "sleep", "stat", "touch")


def write_image(
    path: Path,
    *,
    name: str,
    files: Mapping[str, Path],
    command: tuple[str, ...],
    links: Mapping[str, str] | None = None,
) -> None:
    """Write an image that holds `files` (path in the image → program) and `links` (path → target), for uid 10001."""
    layer = _layer(files, links or {})
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": list(command), "User": "10001:10001", "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    )
    entry = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    entry["annotations"] = {"io.containerd.image.name": name}
    index = _json({"schemaVersion": 2, "manifests": [entry]})
    with tarfile.open(path, "w") as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", index)
        for blob in (config, manifest, layer):
            _add(archive, f"blobs/{_digest(blob).replace(':', '/')}", blob)


def write_own_images(directory: Path, *, node_programs: Path, busybox: Path) -> list[Path]:
    """The images a cluster needs of its own: pause, CoreDNS, and busybox for tests."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("pause", "coredns"):
        write_image(
            directory / f"{name}.tar",
            name={"pause": PAUSE, "coredns": COREDNS}[name],
            files={name: node_programs / name},
            command=(f"/{name}",),
        )
    write_image(
        directory / "busybox.tar",
        name=BUSYBOX,
        files={"bin/busybox": busybox, "bin/fetch": node_programs / "fetch"},
        command=("/bin/sleep", "infinity"),
        links={f"bin/{applet}": "busybox" for applet in _APPLETS},
    )
    return sorted(directory.glob("*.tar"))


def _layer(files: Mapping[str, Path], links: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for folder in ("bin", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            layer.addfile(entry)
        for name, source in files.items():
            _add(layer, name, source.read_bytes(), mode=0o755)
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            layer.addfile(entry)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
