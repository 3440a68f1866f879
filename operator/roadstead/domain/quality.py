"""What was measured of a variant's quality: records beside a LocalModel's spec, in an annotation of it.

``roadstead measure-quality`` writes them and the operator reads them, so their written form has its home here. A record
is of one artifact, by digest: another file of the same name has none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

ANNOTATION: Final = "roadstead.dev/quality-records"
RECORDS_LIMIT: Final = 64
_CHARACTERS_LIMIT: Final = 32 * 1024
"""All annotations of an object together may have 256 KiB."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_WORD: Final = re.compile(r"[\w.+-]{1,64}", re.ASCII)


class RecordsUnreadable(ValueError):
    """The annotation says nothing that can be relied on; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRecord:
    """One measurement: an artifact against the best one of its ladder, over the tokens of a text."""

    artifact: str
    """Digest of what was measured, ``sha256:<64 hex>``."""
    quality: float
    """0 to 1. The only figure that decides; the others tell how it came about."""
    divergence: float
    """Mean Kullback-Leibler divergence of the next token's distribution from that of ``base``, in nats."""
    same_top: float
    """Share of tokens at which both hold the same token for the likeliest."""
    perplexity: float
    base: str
    """Digest of what it was measured against."""
    base_quality: float
    """What the base's quality was held to be: 1.0 for a model without quantization."""
    tool: str
    tool_version: str
    corpus: str
    """Digest of the text."""
    tokens: int
    """Length of what was read of it, for this model's vocabulary."""
    measured: datetime


def quality_of(divergence: float, base_quality: float) -> float:
    """Of an artifact with so many nats from a base of that quality: exp(-divergence / 2) if the base is perfect."""
    return base_quality * math.exp(-divergence / 2)


def to_text(records: Iterable[QualityRecord]) -> str:
    """The annotation's value. Beyond ``RECORDS_LIMIT``, the oldest are left out."""
    newest = sorted(records, key=lambda each: (each.measured, each.artifact))[-RECORDS_LIMIT:]
    return json.dumps({each.artifact: to_object(each) for each in newest}, separators=(",", ":"))


def to_object(record: QualityRecord) -> dict[str, object]:
    """As it is written, without its key."""
    return {
        "quality": round(record.quality, 6),
        "divergence": round(record.divergence, 6),
        "sameTop": round(record.same_top, 5),
        "perplexity": round(record.perplexity, 4),
        "base": record.base,
        "baseQuality": record.base_quality,
        "tool": record.tool,
        "toolVersion": record.tool_version,
        "corpus": record.corpus,
        "tokens": record.tokens,
        "measuredAt": record.measured.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def from_text(text: str | None) -> tuple[QualityRecord, ...]:
    """Records by digest; none of None. ``RecordsUnreadable`` if any is not as ``to_text`` writes them.

    Fields that a newer version added are passed over.
    """
    if text is None:
        return ()
    if len(text) > _CHARACTERS_LIMIT:
        raise RecordsUnreadable(f"it has {len(text)} characters, and may have {_CHARACTERS_LIMIT}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise RecordsUnreadable("it is not JSON") from None
    if not isinstance(found, dict):
        raise RecordsUnreadable("it is not a JSON object of records by digest")
    if len(found) > RECORDS_LIMIT:
        raise RecordsUnreadable(f"it has {len(found)} records, and may have {RECORDS_LIMIT}")
    return tuple(_record(digest, fields) for digest, fields in sorted(found.items()))


def _record(digest: str, fields: object) -> QualityRecord:
    if not _DIGEST.fullmatch(digest):
        raise RecordsUnreadable(f"{digest[:80]!r} is no digest: write sha256: and 64 lower-case hex digits")
    if not isinstance(fields, dict):
        raise RecordsUnreadable(f"the record of {digest[:19]} is not an object")
    read = _Fields(digest, fields)
    return QualityRecord(
        artifact=digest,
        quality=read.number("quality", most=1),
        divergence=read.number("divergence"),
        same_top=read.number("sameTop", most=1),
        perplexity=read.number("perplexity"),
        base=read.text("base", _DIGEST),
        base_quality=read.number("baseQuality", most=1),
        tool=read.text("tool", _WORD),
        tool_version=read.text("toolVersion", _WORD),
        corpus=read.text("corpus", _DIGEST),
        tokens=int(read.number("tokens")),
        measured=read.time("measuredAt"),
    )


@dataclass(frozen=True, slots=True)
class _Fields:
    digest: str
    fields: Mapping[str, object]

    def number(self, name: str, *, most: float = 1e12) -> float:
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise self._wrong(name, f"a number from 0 to {most:g}")
        return float(value)

    def text(self, name: str, shape: re.Pattern[str]) -> str:
        value = self.fields.get(name)
        if not isinstance(value, str) or not shape.fullmatch(value):
            raise self._wrong(name, "a digest" if shape is _DIGEST else "a short word")
        return value

    def time(self, name: str) -> datetime:
        try:
            value = datetime.fromisoformat(str(self.fields.get(name)))
            if value.tzinfo is not None:
                return value.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        raise self._wrong(name, "a time with its zone")

    def _wrong(self, name: str, expected: str) -> RecordsUnreadable:
        return RecordsUnreadable(f"{name} of {self.digest[:19]} is not {expected}")
