"""What a replica is worth to the fleet, term by term: what the assignment adds up, and what people are told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from roadstead.domain.model import ModelSpec
from roadstead.domain.release import Content
from roadstead.planner.quality import quality

SERVED: Final = 1.0
"""One more replica that is served at all is worth more than the difference between any two variants."""
FOR_WEIGHTS: Final = 0.002
"""What it is worth that the weights are there already."""
FOR_ACCELERATORS: Final = 0.05
"""What it is worth to run on accelerators: more than between Q4 and the unquantized model of 8 billion weights."""
_FOR_EACH_RUNG: Final = 0.001
"""At least so much less than the variant before: the assignment keeps the ladder's order among equally good ones."""


class Worth(NamedTuple):
    """Of a replica of one content, wherever its weights are."""

    total: float
    quality: float

    @property
    def rung(self) -> float:
        """What it loses to the variants before it; 0 or less."""
        return self.total - SERVED - self.quality


def worth_of(contents: Iterable[Content], spec: ModelSpec) -> tuple[Worth, ...]:
    """Of each of the contents, the best first."""
    found: list[Worth] = []
    for content in contents:
        good = quality(content, spec)
        most = found[-1].total - _FOR_EACH_RUNG if found else SERVED + 1
        found.append(Worth(min(most, SERVED + good), good))
    return tuple(found)
