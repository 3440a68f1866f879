"""Who may call: client keys by their sha256, and the two secrets, all in files that may change while we run.

A key has 256 random bits, so a plain sha256 is enough to store it, and hashing costs half a microsecond a request. The
table is found by the first bytes of the hash and compared in constant time. A file that cannot be read for a moment (a
Secret's links being swapped) changes nothing; an *empty* keys file revokes every key.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

import structlog

log = structlog.stdlib.get_logger(__name__)

POLL_SECONDS: Final = 2.0
"""Longest time until a revoked key is refused, but for the file's own way to us."""
_PREFIX_BYTES: Final = 4
_MAX_KEY_BYTES: Final = 512
_HEX: Final = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


class KeyRing:
    """The keys known at one moment."""

    __slots__ = ("_digests",)

    def __init__(self, digests: frozenset[bytes] = frozenset()) -> None:
        self._digests: dict[bytes, list[bytes]] = {}
        for digest in digests:
            self._digests.setdefault(digest[:_PREFIX_BYTES], []).append(digest)

    def __len__(self) -> int:
        return sum(map(len, self._digests.values()))

    def knows(self, authorization: bytes) -> bool:
        """Whether this is ``Bearer KEY`` with a key we know."""
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not key or len(key) > _MAX_KEY_BYTES:
            return False
        digest = hashlib.sha256(key.strip()).digest()
        known = False
        for candidate in self._digests.get(digest[:_PREFIX_BYTES], ()):
            known |= hmac.compare_digest(candidate, digest)
        return known

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Read the keys file; a line that is not a hash is left out and reported by its number alone."""
        digests: set[bytes] = set()
        for number, line in enumerate(text.splitlines(), start=1):
            words = line.split(maxsplit=1)
            if not words or words[0].startswith("#"):
                continue
            if _HEX.fullmatch(words[0].lower()):
                digests.add(bytes.fromhex(words[0]))
            else:
                log.warning("key_line_ignored", line=number)
        return cls(frozenset(digests))


def parse_token(text: str) -> str:
    """A secret is the file's text without white space around it."""
    token = text.strip()
    if not token.isascii() or not token.isprintable():
        raise ValueError("a token is plain ASCII on one line")
    return token


class WatchedFile(Generic[T]):
    """A value read from a file, and read again when the file changes."""

    def __init__(self, path: Path, parse: Callable[[str], T], *, missing: T) -> None:
        self.path = path
        self._parse = parse
        self._seen: tuple[int, int, int] | None = None
        self.value = missing

    @property
    def loaded(self) -> bool:
        """Whether the file has ever been read."""
        return self._seen is not None

    def refresh(self) -> bool:
        """Read the file if it changed; tell whether it did. The last value stays when it cannot be read."""
        try:
            stat = self.path.stat()
            mark = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if mark == self._seen:
                return False
            self.value = self._parse(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            log.warning("file_unreadable", path=str(self.path), error=type(error).__name__)
            return False
        self._seen = mark
        return True


async def follow(*files: WatchedFile[KeyRing] | WatchedFile[str], every_seconds: float = POLL_SECONDS) -> None:
    """Refresh files for ever. Polled, not inotify: a mounted Secret changes through links of its folder."""
    while True:
        await asyncio.sleep(every_seconds)
        for file in files:
            if file.refresh():
                log.info("file_read_again", path=str(file.path))


def bearer_is(authorization: str, token: str) -> bool:
    """Whether a header carries this token; an empty token never matches."""
    expected = f"Bearer {token}".encode()
    return bool(token) and hmac.compare_digest(authorization.encode("utf-8", "replace"), expected)
