"""Digests as a type: a ``Digest`` has been checked, so a path may be built from it.

Every name of a blob passes through ``parse_digest``. Path traversal by digest is how Ollama was broken twice
(CVE-2024-37032, CVE-2026-7020).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from roadstead_weights.errors import WeightsCode, WeightsError

_PATTERN: Final = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A sha256, as bytes; ``str()`` gives ``sha256:<hex>``."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != hashlib.sha256().digest_size:
            raise ValueError("a sha256 has 32 bytes")

    @property
    def hex(self) -> str:
        return self.raw.hex()

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


def parse_digest(text: str) -> Digest:
    """``sha256:`` and 64 lower-case hex digits, nothing else; ``DigestMismatch`` otherwise."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise WeightsError(
            WeightsCode.DIGEST_MISMATCH,
            f"{text[:80]!r} is no digest: write sha256: and 64 lower-case hex digits.",
            "digest",
        )
    return Digest(bytes.fromhex(match.group(1)))
