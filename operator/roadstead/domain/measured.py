"""What the fleet has shown of its models, and which of it is news.

Agents keep what engines really used and did, and planning goes by that. The ledger keeps how it came to be, which is
gone with the node otherwise. Figures are never twice the same, so what is within :data:`SPEED_MOVED` or
:data:`MEMORY_MOVED` of what was written last is noise, and not written: an idle fleet writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from roadstead.domain.model import ModelKey
from roadstead.domain.quality import QualityRecord
from roadstead.domain.snapshot import AgentFacts

SPEED_MOVED: Final = 0.10
MEMORY_MOVED: Final = 0.02
"""Memory is the kernel's own figure, and moves less than speeds do."""
_CONTENT_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a content needed and did on a node; None: nobody has told."""

    memory_bytes: int | None
    tokens_per_second: float | None
    """That one stream got."""
    first_token_seconds: float | None
    """That a prompt of ``PROMPT_TOKENS`` would wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the ledger's history of measurements is brought up to date from."""

    nodes: frozenset[str]
    """All that there are, heard or not. What was measured on any other has ended."""
    agents: Mapping[str, AgentFacts]
    """The last answer of each agent, however old."""
    quality: Mapping[ModelKey, tuple[QualityRecord, ...]]


def measured_of(facts: AgentFacts) -> dict[str, Measured]:
    """By hash of the content. What is no such hash is passed over: it stands for nothing that could be looked up."""
    memory, speeds, waits = dict(facts.measured_bytes), dict(facts.measured_speeds), dict(facts.measured_waits)
    return {
        content: Measured(
            # A replica whose engine had just ended reports 0.
            memory_bytes=memory.get(content) or None,
            tokens_per_second=speeds.get(content),
            first_token_seconds=waits.get(content),
        )
        for content in sorted({*memory, *speeds, *waits})
        if _CONTENT_HASH.fullmatch(content)
    }


def news(before: Measured, now: Measured) -> Measured | None:
    """What holds from now on; None if it is what was written.

    A replica that was started again has yet to tell some figures: until then the earlier ones hold.
    """
    if not (
        _moved(before.memory_bytes, now.memory_bytes, MEMORY_MOVED)
        or _moved(before.tokens_per_second, now.tokens_per_second, SPEED_MOVED)
        or _moved(before.first_token_seconds, now.first_token_seconds, SPEED_MOVED)
    ):
        return None
    return Measured(
        memory_bytes=_either(now.memory_bytes, before.memory_bytes),
        tokens_per_second=_either(now.tokens_per_second, before.tokens_per_second),
        first_token_seconds=_either(now.first_token_seconds, before.first_token_seconds),
    )


def _moved(before: float | None, now: float | None, share: float) -> bool:
    return now is not None and (before is None or abs(now - before) > share * before)


def _either(now: T | None, before: T | None) -> T | None:
    return before if now is None else now
