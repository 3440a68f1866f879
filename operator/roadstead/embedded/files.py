"""Writes files that others read while they change: whole or not at all, and never wider than their owner's eyes."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

PRIVATE_MODE = 0o600


def write_atomically(path: Path, content: str | bytes, *, mode: int = PRIVATE_MODE) -> None:
    """Replace `path` in one step; a reader sees the old content or the new."""
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(descriptor, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_once(path: Path, content: str | bytes, *, mode: int = PRIVATE_MODE) -> bool:
    """Write `path` unless it exists, so that what a person edited stays; says whether it was written."""
    if path.exists():
        return False
    write_atomically(path, content, mode=mode)
    return True


def keep_token(path: Path) -> str:
    """The random token in `path`, made at the first call."""
    write_once(path, secrets.token_hex(32) + "\n")
    return path.read_text().strip()
