"""What a replica takes of a node's memory: of the host, and of each accelerator that it runs on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from roadstead.domain.quantity import in_words
from roadstead.domain.release import Content
from roadstead.domain.snapshot import ObservedSlot
from roadstead.planner.engine_args import cache_types
from roadstead.planner.memory.llama_cpp import estimate_llama_cpp, needs_of_llama_cpp
from roadstead.planner.memory.needs import Needs
from roadstead.planner.memory.vllm import needs_of_vllm
from roadstead.planner.nodes import Seat
from roadstead.planner.suitability.rows import Engine

_SURELY_HELD: Final = 0.98
"""Of what is computed for a processor: by more it was never off (docs/reference/performance.md)."""


class Need(NamedTuple):
    """Bytes of one replica, wherever it finds them."""

    host: int
    devices: int = 0
    """How many accelerators; 0: it runs on the processor."""
    each: int = 0
    """Bytes on each of them."""
    among: frozenset[str] = frozenset()
    """Ids of the accelerators that it may run on; none listed means any."""
    marginal: bool = False
    """Whether only a start can tell if it is enough."""

    def may_use(self, device: str) -> bool:
        """Whether it may run on the accelerator of that id."""
        return not self.among or device in self.among

    def __str__(self) -> str:
        if not self.devices:
            return in_words(self.host)
        number = "a device" if self.devices == 1 else f"each of {self.devices} devices"
        return f"{in_words(self.each)} on {number} and {in_words(self.host)} of the host"


class Take(NamedTuple):
    """What one replica has, or will have, of a node."""

    host: int
    each: int = 0
    devices: tuple[str, ...] = ()
    """Ids."""


def need_of(content: Content, seat: Seat, devices: int, *, tight: bool = False) -> Need:
    """On so many of the node's accelerators, or with 0 on its processor, where what was measured counts.

    ``tight``: below that it is known not to run; else what it runs with for certain.

    Not all of what was measured counts: an engine that has not yet worked for all its sequences holds less than it
    will. Of a node with accelerators nobody knows which way of running it was measured in.
    """
    facts = seat.facts
    need = _need(content, facts.isa if facts is not None else (), devices, tight=tight)
    if tight or devices or facts is None or facts.devices:
        return need
    measured = dict(facts.measured_bytes).get(content.hash)
    return need if measured is None else need._replace(host=max(measured, int(_SURELY_HELD * need.host)))


def bytes_needed(content: Content, isa: tuple[str, ...]) -> int:
    """On a processor with this instruction set, which decides what is repacked."""
    return _need(content, isa, 0, tight=False).host


@lru_cache(maxsize=1 << 12)
def _need(content: Content, isa: tuple[str, ...], devices: int, *, tight: bool) -> Need:
    facts, (keys, values) = content.artifact.facts, cache_types(content.engine_args)
    tokens, sequences = content.context_tokens, content.concurrency
    if content.engine == Engine.VLLM:
        bounds = needs_of_vllm(facts, context_tokens=tokens, concurrency=sequences, devices=devices)
        return _bounded(bounds, devices, tight=tight)
    if not devices and not tight:
        estimate = estimate_llama_cpp(
            facts, context_tokens=tokens, concurrency=sequences, isa=isa, keys=keys, values=values
        )
        return Need(estimate.total)
    needs = needs_of_llama_cpp(
        facts,
        context_tokens=tokens,
        concurrency=sequences,
        isa=isa,
        keys=keys,
        values=values,
        devices=devices,
    )
    return _bounded(needs, devices, tight=tight)


def _bounded(needs: Needs, devices: int, *, tight: bool) -> Need:
    if tight:
        return Need(needs.host.least + needs.page_cache, devices, needs.device.least, marginal=True)
    return Need(needs.host.most + needs.page_cache, devices, needs.device.most)


def need_of_slot(slot: ObservedSlot) -> Need:
    """What each of its replicas was promised."""
    return Need(slot.memory_bytes, slot.devices, slot.device_bytes)


def takes_of(slot: ObservedSlot, replicas: int | None = None) -> Iterator[Take]:
    """What its replicas were promised, or the last so many of them."""
    first = 0 if replicas is None else slot.replicas - replicas
    for index in range(max(0, first), slot.replicas):
        group = slot.groups[index] if index < len(slot.groups) else ()
        yield Take(slot.memory_bytes, slot.device_bytes, group)
