"""How fast a variant answers on a node: as it was measured there, else as the memory of that node was seen to be read.

To generate a token an engine reads all weights once, so tokens a second times their bytes is how fast a node reads. The
fastest that anything was seen to do there stands for the node. Of mixtures of experts only a part is read, and how much
is not known from their header alone: they are neither judged by others nor others by them. Where nothing was measured
nothing is said, and nothing is refused.
"""

from __future__ import annotations

from typing import NamedTuple

from roadstead.domain.model import ModelSpec
from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Content
from roadstead.domain.snapshot import AgentFacts
from roadstead.planner.view import View

CLEARLY_SLOWER = 0.8
"""Below this share of what is required something that serves moves on; speeds differ by so much from hour to hour."""


class Speed(NamedTuple):
    """Of one stream."""

    tokens_per_second: float
    measured: bool
    """Of this very content on this node."""


def speed_on(content: Content, facts: AgentFacts, view: View) -> Speed | None:
    """None where nothing is known."""
    measured = dict(facts.measured_speeds)
    if content.hash in measured:
        return Speed(measured[content.hash], measured=True)
    if not _bytes_read(content):
        return None
    seen = [
        tokens * _bytes_read(other)
        for name, tokens in facts.measured_speeds
        if (other := view.content(name)) is not None
    ]
    fastest = max(seen, default=0.0)
    return Speed(fastest / _bytes_read(content), measured=False) if fastest else None


def too_slow(
    content: Content, facts: AgentFacts | None, spec: ModelSpec, view: View, *, share: float = 1.0
) -> Verdict | None:
    """None if it answers fast enough there, or nobody knows. ``share`` of what is required is enough."""
    required = spec.requirements.min_tokens_per_second
    if required is None or facts is None:
        return None
    speed = speed_on(content, facts, view)
    if speed is None or speed.tokens_per_second >= share * required:
        return None
    how = "measured" if speed.measured else "expected"
    return Verdict(
        reason=Reason.SPEED_BELOW_REQUIREMENT,
        message=f"{speed.tokens_per_second:.1f} tokens/s are {how}, requirements.minTokensPerSecond is {required:g}",
    )


def _bytes_read(content: Content) -> int:
    """For each token; 0 if that is not known."""
    facts = content.artifact.facts
    experts = any(key == "expert_used_count" and number for key, number in facts.numbers)
    return 0 if experts else facts.tensor_bytes
