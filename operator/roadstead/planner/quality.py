"""How good a variant is, on one scale: exp(-divergence / 2), where 1.0 is the model without quantization.

The divergence is the mean Kullback-Leibler divergence of the next token's distribution. What a team says in
``quality`` counts, then what was measured of this very artifact. Without either, the prior is what llama.cpp's
maintainers measured for Llama 3 8B (its ``tools/perplexity/README.md``, without importance matrix where there is such
a row), scaled by the model's size: the same type costs a small model more. A label is not a measurement: re-quantized
files and mixtures differ, so a figure of one's own is worth having.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final, NamedTuple

from roadstead.domain.model import ModelSpec
from roadstead.domain.plan import QualityOrigin, Verdict
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Content
from roadstead_weights.facts import ModelFacts

EQUAL_DIVERGENCE: Final = 0.005
"""Closer than that is equally good: on a CPU even the very same weights differ by 0.003 from run to run."""

_DIVERGENCES: Final = {
    "F32": 0.0, "F16": 0.0, "BF16": 0.0, "Q8_0": 0.0014, "Q6_K": 0.0055, "Q5_K_M": 0.0108, "Q5_K_S": 0.0166,
    "Q5_1": 0.0180, "Q5_0": 0.0222, "Q4_K_M": 0.0313, "IQ4_NL": 0.0357, "IQ4_XS": 0.0363, "MXFP4_MOE": 0.040,
    "NVFP4": 0.040, "Q4_K_S": 0.0431, "Q4_1": 0.0717, "Q4_0": 0.0719, "Q3_K_L": 0.0872, "Q3_K_M": 0.1019,
    "IQ3_M": 0.1025, "IQ3_S": 0.1113, "IQ3_XS": 0.1387, "IQ3_XXS": 0.1836, "Q3_K_S": 0.2282, "IQ2_M": 0.3260,
    "Q2_K": 0.4451, "Q2_K_S": 0.4451, "IQ2_S": 0.4394, "IQ2_XS": 0.5463, "IQ2_XXS": 0.8120, "TQ2_0": 0.8120,
    "IQ1_M": 1.3931, "TQ1_0": 1.3931, "Q1_0": 2.2209, "IQ1_S": 2.2209,
}  # fmt: skip
"""By file type, for a model of 8 billion weights. MXFP4, NVFP4, TQ and Q1 are placed by their bits, not measured."""
_BY_BITS: Final = (
    (1.9, 2.2209), (2.4, 0.8120), (3.0, 0.4451), (3.9, 0.1019), (4.35, 0.0719), (4.9, 0.0313), (5.7, 0.0108),
    (6.6, 0.0055), (8.5, 0.0014), (16.0, 0.0),
)  # fmt: skip
"""For files whose type has no row: bits per weight and the divergence that is usual there."""
_REFERENCE_WEIGHTS: Final = 8e9
_SIZE_EXPONENT: Final = 0.35
_SIZE_FACTORS: Final = (0.4, 2.5)


class Figure(NamedTuple):
    """A quality, and where it is from."""

    quality: float
    origin: QualityOrigin

    @property
    def divergence(self) -> float:
        """In nats; infinite for what is worth nothing."""
        return -2 * math.log(self.quality) if self.quality > 0 else math.inf


def figure(content: Content, spec: ModelSpec) -> Figure:
    """The spec's, else what was measured of the artifact, else the prior."""
    given = _given(content, spec)
    if given is not None:
        return Figure(given, QualityOrigin.GIVEN)
    record = next((each for each in spec.measured if each.artifact == content.artifact.digest), None)
    if record is not None:
        return Figure(record.quality, QualityOrigin.MEASURED)
    return Figure(math.exp(-prior_divergence(content.artifact.facts) / 2), QualityOrigin.USUAL)


def quality(content: Content, spec: ModelSpec) -> float:
    """0 to 1."""
    return figure(content, spec).quality


def below_floor(content: Content, spec: ModelSpec) -> Verdict | None:
    """None if the variant is good enough to be served."""
    floor = spec.requirements.min_quality
    found, origin = figure(content, spec)
    if floor is None or found >= floor:
        return None
    measured = "measured " if origin is QualityOrigin.MEASURED else ""
    return Verdict(
        reason=Reason.QUALITY_BELOW_FLOOR,
        message=f"has a {measured}quality of {found:.3f}, requirements.minQuality is {floor:g}",
    )


def best_first(contents: Iterable[Content], spec: ModelSpec) -> tuple[Content, ...]:
    """The ladder in the order in which a node tries it.

    Figures that are equally good count as equal, and then the smaller comes first: an engine reads all weights for each
    token, so it is the faster one. A figure that somebody gave is meant as it is.
    """
    rungs = sorted((_rung(content, spec) for content in contents), key=lambda rung: rung.order)
    ranked: list[Content] = []
    equals: list[_Rung] = []
    for rung in rungs:
        if equals and (rung.given or equals[0].given or rung.divergence - equals[0].divergence > EQUAL_DIVERGENCE):
            ranked += [each.content for each in sorted(equals, key=lambda each: each.cheaper)]
            equals = []
        equals.append(rung)
    ranked += [each.content for each in sorted(equals, key=lambda each: each.cheaper)]
    return tuple(ranked)


def prior_divergence(facts: ModelFacts) -> float:
    """Expected without a measurement."""
    usual = _DIVERGENCES.get(facts.quantization)
    if usual is None:
        usual = _usual_for(facts.bits_per_weight)
    least, most = _SIZE_FACTORS
    size = math.pow(_REFERENCE_WEIGHTS / max(1, facts.parameters), _SIZE_EXPONENT)
    return usual * min(most, max(least, size))


class _Rung(NamedTuple):
    content: Content
    divergence: float
    given: bool

    @property
    def cheaper(self) -> tuple[int, str]:
        return (self.content.artifact.bytes, self.content.hash)

    @property
    def order(self) -> tuple[float, int, str]:
        return (self.divergence, *self.cheaper)


def _rung(content: Content, spec: ModelSpec) -> _Rung:
    found = figure(content, spec)
    return _Rung(content, found.divergence, given=found.origin is QualityOrigin.GIVEN)


def _given(content: Content, spec: ModelSpec) -> float | None:
    return next((variant.quality for variant in spec.variants if variant.name == content.variant), content.quality)


def _usual_for(bits: float) -> float:
    """Between two rows by the logarithm, which is nearly straight."""
    at = bisect_left(_BY_BITS, (bits,))
    if at == 0:
        return _BY_BITS[0][1]
    if at == len(_BY_BITS):
        return _BY_BITS[-1][1]
    (low, worse), (high, better) = _BY_BITS[at - 1], _BY_BITS[at]
    share = (bits - low) / (high - low)
    if not better:
        return worse * (1 - share)
    return math.exp(math.log(worse) * (1 - share) + math.log(better) * share)
