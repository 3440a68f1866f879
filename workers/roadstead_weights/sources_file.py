"""Opening a local file that somebody else named.

The path must lie under an allowed root, both as written and after symbolic links are resolved. The resolved path is
then opened from the root downwards, one component at a time and following no link, so that a link swapped in between
the check and the open leads nowhere. Devices, pipes and sockets are refused.

Whether a file outside the roots exists is never told.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from roadstead_weights.errors import WeightsCode, WeightsError
from roadstead_weights.sources import FileSource


@dataclass(slots=True, kw_only=True)
class LocalFile:
    """An open file and what identified it when it was opened."""

    file: BinaryIO
    size: int
    modified_ns: int
    identity: str
    """Changes whenever the content may have changed: device, inode, size, modification and change time."""

    def unchanged(self) -> bool:
        """Whether the open file is still what it was."""
        return _identity(os.fstat(self.file.fileno())) == self.identity


def open_local(source: FileSource, roots: tuple[Path, ...]) -> LocalFile:
    """Open the source for reading; the caller closes ``file``. Raises ``WeightsError``."""
    root, parts = _below_root(source, roots)
    try:
        fd = _open_below(root, parts)
    except FileNotFoundError:
        raise _not_found(source) from None
    except OSError as error:
        raise WeightsError(
            WeightsCode.SOURCE_UNAVAILABLE, f"{source.label} cannot be read: {error.strerror}.", source.label
        ) from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise WeightsError(WeightsCode.SOURCE_NOT_ALLOWED, f"{source.label} is not a regular file.", source.label)
    return LocalFile(
        file=os.fdopen(fd, "rb"), size=status.st_size, modified_ns=status.st_mtime_ns, identity=_identity(status)
    )


def _below_root(source: FileSource, roots: tuple[Path, ...]) -> tuple[Path, tuple[str, ...]]:
    written = Path(source.path)
    real_roots = [(root, Path(os.path.realpath(root))) for root in roots]
    if not any(written.is_relative_to(root) or written.is_relative_to(real) for root, real in real_roots):
        raise _outside(source)
    try:
        resolved = Path(os.path.realpath(written, strict=True))
    except FileNotFoundError:
        resolved = Path(os.path.realpath(written))
    except OSError as error:
        raise WeightsError(
            WeightsCode.SOURCE_UNAVAILABLE, f"{source.label} cannot be read: {error.strerror}.", source.label
        ) from None
    for _, real in real_roots:
        if resolved.is_relative_to(real) and resolved != real:
            return real, resolved.relative_to(real).parts
    raise _outside(source)


def _open_below(root: Path, parts: tuple[str, ...]) -> int:
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, folder)
        for part in parts[:-1]:
            folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            stack.callback(os.close, folder)
        # O_NONBLOCK: opening a pipe without a writer must not hang; it means nothing for regular files.
        return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def _not_found(source: FileSource) -> WeightsError:
    return WeightsError(WeightsCode.SOURCE_NOT_FOUND, f"There is no file {source.label} on this node.", source.label)


def _outside(source: FileSource) -> WeightsError:
    return WeightsError(
        WeightsCode.SOURCE_NOT_ALLOWED,
        f"{source.label} is not under a folder that this node may read. The platform team can allow it "
        "(ROADSTEAD_SOURCE_ROOTS), or put the file under one that is.",
        source.label,
    )
