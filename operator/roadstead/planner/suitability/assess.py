"""A pair, judged: one model in one format on one node with one build of an engine.

Quality is asked first, for it is the same everywhere; then what the hardware can do, on how many devices, whether there
is room, and last how fast it would be. The devices of a kind are one option, the processor alone is another; the best
option that fits is the answer, and where none does, the refusal of the one that got furthest.

Of a node whose descriptions contradict each other only what is certain is used. A refusal that more hardware might have
spared names the contradiction instead, because that is what has to be put right first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from roadstead.domain.inventory import Device, Inventory
from roadstead.domain.model import PROMPT_TOKENS, Requirements
from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.planner.memory.needs import Needs
from roadstead.planner.suitability.capability import BuiltEngine, Path, capability
from roadstead.planner.suitability.room import Free, cores_verdict, disk_verdict, held, host_verdict, place
from roadstead.planner.suitability.rows import Backend
from roadstead.planner.suitability.shapes import alike, as_counted, shape, sizes
from roadstead_weights.facts import ModelFacts

_OF_THE_BUILD: Final = frozenset({Reason.NO_FORMAT_ENGINE, Reason.PLUGIN_MISSING, Reason.INSUFFICIENT_DISK})
"""No device that might be there as well would spare these refusals."""
_OF_THE_HARDWARE: Final = frozenset({
    Reason.COMPUTE_CAPABILITY_TOO_LOW, Reason.DTYPE_UNSUPPORTED, Reason.VENDOR_UNSUPPORTED, Reason.ISA_MISSING,
    Reason.AMBIGUOUS_INVENTORY,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What came of it. Everything but the verdict is there only if the pair is accepted."""

    verdict: Verdict | None = None
    """None: it surely runs. With ``MarginalFit`` it is accepted, as a last resort; anything else is a refusal."""
    path: Path | None = None
    devices: tuple[str, ...] = ()
    """Ids; empty on the processor alone."""
    needs: Needs | None = None
    """Of one replica on those devices."""
    quality: float | None = None
    tokens_per_second: float | None = None
    seconds_to_first_token: float | None = None

    @property
    def accepted(self) -> bool:
        return self.verdict is None or self.marginal

    @property
    def marginal(self) -> bool:
        return self.verdict is not None and self.verdict.reason is Reason.MARGINAL_FIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What is judged."""

    inventory: Inventory
    free: Free
    build: BuiltEngine
    facts: ModelFacts
    needs_of: Callable[[int], Needs]
    """By the number of devices; 0: on the processor alone."""


def assess(
    pair: Pair,
    *,
    requirements: Requirements,
    quality: float,
    tokens_per_second: float | None = None,
    seconds_to_first_token: float | None = None,
) -> Assessment:
    """The pair with what a replica must be able to do. ``quality`` and the speeds are the model's on this node.

    Speeds that nobody knows are None, and nothing is refused for them.
    """
    poor = _poor(requirements, quality)
    if poor is not None:
        return Assessment(verdict=poor)
    found = _best([_on(pair, devices) for devices in options(pair.build, pair.inventory.devices)])
    if not found.accepted:
        return replace(found, verdict=found.verdict and or_ambiguous(pair.inventory.ambiguities, found.verdict))
    slow = _slow(requirements, tokens_per_second, seconds_to_first_token)
    if slow is not None:
        return Assessment(verdict=slow)
    return replace(
        found,
        quality=quality,
        tokens_per_second=tokens_per_second,
        seconds_to_first_token=seconds_to_first_token,
    )


def options(build: BuiltEngine, devices: Iterable[Device]) -> tuple[tuple[Device, ...], ...]:
    """The kinds of devices, and the processor alone where the build can do with it or there is nothing else."""
    kinds = alike(devices)
    return (*kinds, ()) if Backend.CPU in build.backends or not kinds else kinds


def of_the_hardware(verdict: Verdict) -> bool:
    """Whether it says less than others: that a kind of device, or the processor, is not the one to run on."""
    return verdict.reason in _OF_THE_HARDWARE


def _best(tried: list[Assessment]) -> Assessment:
    """Sure before marginal, devices before the processor, native before slow; of refusals the one that got furthest."""
    accepted = [each for each in tried if each.accepted]
    if accepted:
        return min(accepted, key=lambda each: (each.marginal, not each.devices, each.path and not each.path.native))
    return min(tried, key=lambda each: each.verdict is not None and of_the_hardware(each.verdict))


def _on(pair: Pair, devices: tuple[Device, ...]) -> Assessment:
    """On devices that are alike, or on the processor."""
    first = devices[0] if devices else None
    path = capability(pair.facts, build=pair.build, device=first, isa=pair.inventory.isa)
    if isinstance(path, Verdict):
        return Assessment(verdict=path)
    if not devices:
        return _sized(pair, path, devices, 0)
    tried = [_sized(pair, path, devices, size) for size in sizes(devices)]
    accepted = [each for each in tried if each.accepted]
    if accepted:
        return min(accepted, key=lambda each: each.marginal)
    return _most_telling(tried)


def _most_telling(tried: list[Assessment]) -> Assessment:
    """Not enough memory is what to tell only if no other number of devices was refused for anything else."""
    others = (each for each in tried if each.verdict and each.verdict.reason is not Reason.INSUFFICIENT_VRAM)
    return next(others, tried[-1])


def _sized(pair: Pair, path: Path, devices: tuple[Device, ...], size: int) -> Assessment:
    """On ``size`` of these devices. Memory is asked first: what would not fit in any case is not amiss in shape."""
    needs = held(pair.needs_of(size), facts=pair.facts, path=path, devices=size)
    taken, short = place(needs.device, as_counted(devices), size) if size else ((), None)
    if short is not None and not taken:
        return Assessment(verdict=short)
    shaped = shape(pair.facts, build=pair.build, path=path, devices=devices, size=size)
    if isinstance(shaped, Verdict):
        return Assessment(verdict=shaped)
    verdicts = [
        short,
        host_verdict(needs, pair.free),
        disk_verdict(needs, pair.free),
        cores_verdict(pair.build, pair.free, devices=size),
    ]
    spoken = [each for each in verdicts if each is not None]
    refusal = next((each for each in spoken if each.reason is not Reason.MARGINAL_FIT), None)
    if refusal is not None:
        return Assessment(verdict=refusal)
    return Assessment(
        verdict=next(iter(spoken), None), path=shaped, devices=tuple(device.id for device in taken), needs=needs
    )


def or_ambiguous(ambiguities: Sequence[str], verdict: Verdict) -> Verdict:
    """Of a node whose descriptions contradict each other a refusal that more hardware might have spared."""
    if not ambiguities or verdict.reason in _OF_THE_BUILD:
        return verdict
    return Verdict(
        reason=Reason.AMBIGUOUS_INVENTORY,
        message=f"what describes the node contradicts itself: {'; '.join(ambiguities)}. "
        f"On what is certain: {verdict.message}",
    )


def _poor(requirements: Requirements, quality: float) -> Verdict | None:
    floor = requirements.min_quality
    if floor is None or quality >= floor:
        return None
    return Verdict(
        reason=Reason.QUALITY_BELOW_FLOOR,
        message=f"has a quality of {quality:.3f}, requirements.minQuality is {floor:g}",
    )


def _slow(requirements: Requirements, tokens: float | None, wait: float | None) -> Verdict | None:
    least, longest = requirements.min_tokens_per_second, requirements.max_seconds_to_first_token
    if least is not None and tokens is not None and tokens < least:
        return Verdict(
            reason=Reason.SPEED_BELOW_REQUIREMENT,
            message=f"{tokens:.1f} tokens/s are expected, requirements.minTokensPerSecond is {least:g}",
        )
    if longest is not None and wait is not None and wait > longest:
        return Verdict(
            reason=Reason.SPEED_BELOW_REQUIREMENT,
            message=f"a prompt of {PROMPT_TOKENS} tokens would wait {wait:.1f} s for its first token, "
            f"requirements.maxTimeToFirstToken is {longest:g} s",
        )
    return None
