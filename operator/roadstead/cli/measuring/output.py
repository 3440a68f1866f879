"""What `llama-perplexity` prints, as figures. It says most of what goes wrong in its output and exits with 0."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

_FIGURE: Final = r"\s*(-?\d+\.\d+|-?nan|-?inf)"
_FINAL: Final = re.compile(rf"Final estimate: PPL ={_FIGURE}")
_PERPLEXITY: Final = re.compile(rf"^Mean PPL\(Q\)\s*:{_FIGURE}", re.MULTILINE)
_DIVERGENCE: Final = re.compile(rf"^Mean\s+KLD:{_FIGURE}", re.MULTILINE)
_SAME_TOP: Final = re.compile(rf"^Same top p:{_FIGURE}", re.MULTILINE)
_TOTAL: Final = re.compile(r"over (\d+) chunks, n_ctx=")
_CHUNK: Final = re.compile(r"\[(\d+)\]\s*[\d.]+,|\n *(\d+) +[\d.]+ ± ")
_COMPLAINT: Final = re.compile(r"^(?:[\d.]+ E (?:\w+: ?)?|error: )(.+)$", re.MULTILINE)
"""A line of its log that is an error, or of its command line's reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """One variant against the base."""

    divergence: float
    """Mean over the tokens, in nats. Never negative: rounding makes -0.000001 of equal weights."""
    same_top: float
    """Share of the tokens."""
    perplexity: float


@dataclass(frozen=True, slots=True)
class Chunks:
    """How far a run is."""

    done: int
    total: int
    """0 until it is known."""


def statistics(text: str) -> Statistics | None:
    """None if the run did not come to its end, or to figures."""
    found = [_figure(pattern, text) for pattern in (_DIVERGENCE, _SAME_TOP, _PERPLEXITY)]
    divergence, same_top, perplexity = found
    if divergence is None or same_top is None or perplexity is None or "inconsistent vocabulary" in text:
        return None
    return Statistics(divergence=max(0.0, divergence), same_top=same_top / 100, perplexity=perplexity)


def final_perplexity(text: str) -> float | None:
    """Of the run that others are compared with; None if it did not come to its end."""
    return _figure(_FINAL, text)


def chunks(text: str, known: Chunks = Chunks(0, 0)) -> Chunks:
    """By the newest of what was printed so far. Once a total is ``known``, the end of the text is enough."""
    total, begin = known.total, 0
    if not total:
        told = _TOTAL.search(text)
        if told is None:
            return known
        total, begin = int(told[1]), told.end()
    done = known.done
    for match in _CHUNK.finditer(text, begin):
        done = int(match[1] or match[2])
    return Chunks(done, total)


def complaint(text: str) -> str:
    """What went wrong in its own words: the first error, else the last line; empty if it said nothing."""
    told = _COMPLAINT.search(text)
    return (told[1] if told else text.strip().rpartition("\n")[2])[:300].strip()


def _figure(pattern: re.Pattern[str], text: str) -> float | None:
    match = pattern.search(text)
    value = float(match[1]) if match is not None else math.nan
    return value if math.isfinite(value) else None
