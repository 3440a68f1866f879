"""In which ways a build can run a content on a machine: on how many devices of which kind, and on the processor.

The capability matrix is asked, and nothing else: neither memory nor what is free nor speed. The answer is the same for
all machines that are alike, so it is kept by what they are made of; a placement asks it of every node and content.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from roadstead.domain.inventory import Device
from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Content
from roadstead.planner.suitability.assess import of_the_hardware, options
from roadstead.planner.suitability.capability import BuiltEngine, Path, capability
from roadstead.planner.suitability.shapes import shape, sizes

_Kind = tuple[Device, ...]
"""Devices that are alike, without what tells one from another; none: the processor."""


class WayIn(NamedTuple):
    """One way to run a content on a machine."""

    devices: tuple[Device, ...]
    """Those to choose from, which are alike; none on the processor alone."""
    size: int
    """How many of them a replica takes; 0 on the processor alone."""
    path: Path


class _Found(NamedTuple):
    kind: int
    """Which of the kinds."""
    size: int
    path: Path


def ways(
    content: Content, built: BuiltEngine | None, isa: frozenset[str] | None, devices: tuple[Device, ...]
) -> tuple[WayIn, ...] | Verdict:
    """At least one way, the one to try first before the others; or why there is none.

    On devices before the processor alone, of these on few before many, then natively before slowly. ``built`` is None
    for an engine that nobody here knows, ``isa`` where nobody told of the processor.
    """
    if built is None:
        return Verdict(
            reason=Reason.NO_FORMAT_ENGINE, message=f"what {content.engine} runs is not known to this version"
        )
    groups, kinds = _grouped(built, devices)
    found = _found(content, built, isa, kinds)
    return found if isinstance(found, Verdict) else tuple(WayIn(groups[at], size, path) for at, size, path in found)


@lru_cache(maxsize=1 << 12)
def _grouped(
    built: BuiltEngine, devices: tuple[Device, ...]
) -> tuple[tuple[tuple[Device, ...], ...], tuple[_Kind, ...]]:
    """What there is to run on, and the same without ids and what is free, which differ between machines alike."""
    groups = options(built, devices)
    return groups, tuple(tuple(replace(each, id="", free_bytes=None) for each in group) for group in groups)


@lru_cache(maxsize=1 << 14)
def _found(
    content: Content, built: BuiltEngine, isa: frozenset[str] | None, kinds: tuple[_Kind, ...]
) -> tuple[_Found, ...] | Verdict:
    tried = [(at, size, path) for at, kind in enumerate(kinds) for size, path in _on(content, built, isa, kind)]
    found = [_Found(at, size, path) for at, size, path in tried if isinstance(path, Path)]
    if found:
        return tuple(sorted(found, key=lambda way: (not way.size, way.size, not way.path.native)))
    return min((verdict for _, _, verdict in tried if isinstance(verdict, Verdict)), key=of_the_hardware)


def _on(
    content: Content, built: BuiltEngine, isa: frozenset[str] | None, kind: _Kind
) -> Iterable[tuple[int, Path | Verdict]]:
    """By number of devices of the kind."""
    facts = content.artifact.facts
    path = capability(facts, build=built, device=kind[0] if kind else None, isa=isa)
    for size in sizes(kind) if kind else (0,):
        yield size, path if isinstance(path, Verdict) else shape(facts, build=built, path=path, devices=kind, size=size)
