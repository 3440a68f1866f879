"""A layer of an image: a tree of files, written as a tar archive whose bytes depend on nothing but the tree.

Entries are sorted, owned by root, dated `SOURCE_DATE_EPOCH` (else 1970), and have one of two modes: who built them,
when and in which folder is not to be seen. Archives are not compressed: containerd would only unpack them again, and
gzip's bytes differ between versions of zlib.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

_PLAIN, _EXECUTABLE, _LINK = 0o644, 0o755, 0o777


@dataclass(frozen=True, slots=True)
class File:
    """A regular file; its content is held as bytes, or read from a path when the layer is written."""

    content: bytes | Path
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of its own mode; others are made as they are needed, with 0755."""

    mode: int


@dataclass(frozen=True, slots=True)
class Blob:
    """A file that is named by what it holds."""

    path: Path
    digest: str
    """`sha256:` and 64 hex digits."""
    size: int
    """In bytes."""


@dataclass(slots=True)
class Tree:
    """Files by their path in the image, without a leading slash."""

    entries: dict[str, File | Link | Folder] = field(default_factory=dict)

    def add(self, path: str, entry: File | Link | Folder) -> None:
        self.entries[str(PurePosixPath(path))] = entry

    def text(self, path: str, content: str) -> None:
        self.add(path, File(content.encode()))

    def folder(self, source: Path, *, at: str) -> None:
        """Everything below `source`, links as they are."""
        for path in sorted(source.rglob("*")):
            place = str(PurePosixPath(at) / path.relative_to(source))
            if path.is_symlink():
                self.add(place, Link(str(path.readlink())))
            elif path.is_file():
                self.add(place, File(path, executable=bool(path.stat().st_mode & 0o100)))

    def write_to(self, folder: Path) -> None:
        """Lay the tree out on this machine's disk, below `folder`."""
        for path, entry in self.entries.items():
            place = folder / path
            if isinstance(entry, Folder):
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(entry, Link):
                place.symlink_to(entry.target)
                continue
            with place.open("wb") as target, _opened(entry) as source:
                shutil.copyfileobj(source, target)
            place.chmod(_EXECUTABLE if entry.executable else _PLAIN)


def source_date_epoch() -> int:
    """Seconds since 1970 that everything in an image is dated."""
    return int(os.environ.get("SOURCE_DATE_EPOCH", "0"))


def write_layer(tree: Tree, path: Path) -> Blob:
    """Write the tree as a tar archive; equal trees give equal bytes."""
    with path.open("wb") as raw, tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for folder in sorted(_folders(tree)):
            known = tree.entries.get(folder)
            archive.addfile(_entry(folder, tarfile.DIRTYPE, known.mode if isinstance(known, Folder) else _EXECUTABLE))
        for name, entry in sorted(tree.entries.items()):
            match entry:
                case Link(target):
                    link = _entry(name, tarfile.SYMTYPE, _LINK)
                    link.linkname = target
                    archive.addfile(link)
                case File():
                    _add_file(archive, name, entry)
                case Folder():
                    continue
    return blob_of(path)


def unpack(archive: Path, folder: Path) -> None:
    """Lay an archive of ours out on this machine's disk; its links may lead out of the folder, its files do not."""
    with tarfile.open(archive) as members:
        members.extractall(  # noqa: S202 - written by `write_layer`, and named by its content
            folder, filter=lambda member, _: member.replace(uid=os.getuid(), gid=os.getgid(), deep=False)
        )


def remove(folder: Path) -> None:
    """Remove a folder of ours and all below it."""
    shutil.rmtree(folder)


def blob_of(path: Path) -> Blob:
    """Name a file by its content."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Blob(path=path, digest=f"sha256:{digest}", size=path.stat().st_size)


def _folders(tree: Tree) -> Iterator[str]:
    seen = {""}
    for name, entry in tree.entries.items():
        parents = [str(parent) for parent in PurePosixPath(name).parents if str(parent) != "."]
        for folder in (*parents, *((name,) if isinstance(entry, Folder) else ())):
            if folder not in seen:
                seen.add(folder)
                yield folder


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.mtime = kind, mode, source_date_epoch()
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _add_file(archive: tarfile.TarFile, name: str, file: File) -> None:
    entry = _entry(name, tarfile.REGTYPE, _EXECUTABLE if file.executable else _PLAIN)
    entry.size = len(file.content) if isinstance(file.content, bytes) else file.content.stat().st_size
    with _opened(file) as content:
        archive.addfile(entry, content)


def _opened(file: File) -> IO[bytes]:
    return io.BytesIO(file.content) if isinstance(file.content, bytes) else file.content.open("rb")
