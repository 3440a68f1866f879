"""How fast a variant answers on a node: as it was measured there, else as can be expected from what else is known.

What is known best counts. What was measured of this very content on this node is true. To generate a token an engine
reads all active weights once, so tokens a second times their bytes is how fast a node reads; the fastest that anything
was seen to do there stands for the node, and likewise for the time that prompts take. Where nothing was measured, the
speed is computed from how fast the memory is (``roofline``), and then refuses only what is not possible. Where not even
that is known nothing is said, and nothing is refused.

Expectations keep something from being started. What stands is moved by nothing but measurements.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from roadstead.domain.inventory import Device
from roadstead.domain.model import PROMPT_TOKENS, ModelSpec, Requirements
from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Content
from roadstead.domain.snapshot import AgentFacts
from roadstead.planner.device_speeds import DeviceSpeed, speed_of
from roadstead.planner.engine_args import cache_types
from roadstead.planner.roofline import (
    Active,
    Computed,
    active,
    decode_on_devices,
    decode_on_host,
    first_token_on_devices,
)
from roadstead.planner.view import View

_CLEARLY_SLOWER: Final = 0.8
"""Below this share of what is required something that serves moves on; speeds differ by so much from hour to hour."""


class Basis(StrEnum):
    """Where a figure comes from, as people are told."""

    MEASURED = "measured"
    """Of this very content on this node."""
    EXPECTED = "expected"
    """From what others were seen to do on this node."""
    COMPUTED = "computed"


class Figure(NamedTuple):
    """Tokens a second of one stream, or seconds until the first token."""

    value: float
    basis: Basis
    best: float
    """What is possible, which decides; the value itself unless that is computed."""


def speed_on(content: Content, facts: AgentFacts, view: View, devices: Sequence[Device] = ()) -> Figure | None:
    """Tokens a second on the host's cores, or on ``devices`` of the node together; None where nothing is known."""
    for name, tokens in facts.measured_speeds:
        if name == content.hash:
            return Figure(tokens, Basis.MEASURED, tokens)
    read = _active(content)
    if read is None or not read.bytes:
        return None
    if devices:
        return _computed(_decode(content, _speeds(devices), None))
    # On a node with devices it may have been measured on them; then more is expected than is right, and it is tried.
    others = (tokens * other.bytes for other, tokens in _others(facts.measured_speeds, view))
    fastest = max(others, default=0.0)
    if fastest:
        return Figure(fastest / read.bytes, Basis.EXPECTED, fastest / read.bytes)
    return _computed(_decode(content, (), facts.memory_bandwidth))


def wait_on(content: Content, facts: AgentFacts, view: View, devices: Sequence[Device] = ()) -> Figure | None:
    """Seconds until the first token of an answer to ``PROMPT_TOKENS``; None where nothing is known."""
    for name, seconds in facts.measured_waits:
        if name == content.hash:
            return Figure(seconds, Basis.MEASURED, seconds)
    if devices:
        return _computed(_first_token(content, _speeds(devices)))
    through = _active(content)
    if through is None or not through.weights:
        return None
    others = (seconds / other.weights for other, seconds in _others(facts.measured_waits, view) if other.weights)
    shortest = min(others, default=0.0)
    if not shortest:
        return None
    return Figure(shortest * through.weights, Basis.EXPECTED, shortest * through.weights)


def too_slow(
    content: Content, facts: AgentFacts | None, spec: ModelSpec, view: View, devices: Sequence[Device] = ()
) -> Verdict | None:
    """None if it answers fast enough there to be started, or nobody knows."""
    required = spec.requirements
    if facts is None or not has_speed(required):
        return None
    if required.min_tokens_per_second is not None:
        speed = speed_on(content, facts, view, devices)
        if speed is not None and speed.best < required.min_tokens_per_second:
            return _too_few_tokens(speed, required.min_tokens_per_second)
    if required.max_seconds_to_first_token is not None:
        wait = wait_on(content, facts, view, devices)
        if wait is not None and wait.best > required.max_seconds_to_first_token:
            return _too_long_a_wait(wait, required.max_seconds_to_first_token)
    return None


def seen_too_slow(content_hash: str, facts: AgentFacts | None, spec: ModelSpec) -> bool:
    """Whether what stands there was measured, and is clearly slower than is required."""
    if facts is None:
        return False
    tokens, seconds = dict(facts.measured_speeds).get(content_hash), dict(facts.measured_waits).get(content_hash)
    least, most = spec.requirements.min_tokens_per_second, spec.requirements.max_seconds_to_first_token
    if tokens is not None and least is not None and tokens < _CLEARLY_SLOWER * least:
        return True
    return seconds is not None and most is not None and _CLEARLY_SLOWER * seconds > most


def has_speed(required: Requirements) -> bool:
    """Whether anything of it depends on how fast a node is."""
    return required.min_tokens_per_second is not None or required.max_seconds_to_first_token is not None


def _too_few_tokens(speed: Figure, required: float) -> Verdict:
    how = f"{speed.value:.1f} tokens/s are {speed.basis}"
    if speed.basis is Basis.COMPUTED:
        how += f" from memory bandwidth and {speed.best:.1f} possible"
    return Verdict(
        reason=Reason.SPEED_BELOW_REQUIREMENT,
        message=f"{how}, requirements.minTokensPerSecond is {required:g}",
    )


def _too_long_a_wait(wait: Figure, required: float) -> Verdict:
    how = f"{wait.value:.1f} s to the first token of {PROMPT_TOKENS:,} are {wait.basis}"
    if wait.basis is Basis.COMPUTED:
        how += f" from the device's arithmetic and {wait.best:.1f} possible"
    return Verdict(
        reason=Reason.SPEED_BELOW_REQUIREMENT,
        message=f"{how}, requirements.maxTimeToFirstToken is {required:g} s",
    )


def _others(measured: Iterable[tuple[str, float]], view: View) -> Iterable[tuple[Active, float]]:
    """What was measured of contents that are known still."""
    for name, figure in measured:
        content = view.content(name)
        through = _active(content) if content is not None else None
        if through is not None:
            yield through, figure


def _speeds(devices: Sequence[Device]) -> tuple[DeviceSpeed, ...]:
    """None of them where one is not known."""
    found = tuple(speed for device in devices if (speed := speed_of(device)) is not None)
    return found if len(found) == len(devices) else ()


def _computed(found: Computed | None) -> Figure | None:
    return None if found is None else Figure(found.expected, Basis.COMPUTED, found.best)


@lru_cache(maxsize=1 << 12)
def _active(content: Content) -> Active | None:
    return active(content.artifact.facts)


@lru_cache(maxsize=1 << 12)
def _decode(content: Content, speeds: tuple[DeviceSpeed, ...], bandwidth: float | None) -> Computed | None:
    """On devices, or else on a host whose bandwidth is known."""
    facts = content.artifact.facts
    keys, values = cache_types(content.engine_args)
    context = min(PROMPT_TOKENS, content.context_tokens)
    if bandwidth is not None:
        return decode_on_host(facts, bandwidth=bandwidth, context_tokens=context, keys=keys, values=values)
    return decode_on_devices(facts, speeds, context_tokens=context, keys=keys, values=values)


@lru_cache(maxsize=1 << 12)
def _first_token(content: Content, speeds: tuple[DeviceSpeed, ...]) -> Computed | None:
    prompt = min(PROMPT_TOKENS, content.context_tokens)
    return first_token_on_devices(content.artifact.facts, speeds, prompt_tokens=prompt)
