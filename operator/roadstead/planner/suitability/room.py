"""Whether there is room: memory of devices and host, disk, cores. A figure that nobody told refuses nothing.

Needs have two bounds. What surely fits is taken; what surely does not is refused; between them it may run, which is
:data:`Reason.MARGINAL_FIT`: no refusal, but the last resort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from roadstead.domain.inventory import Device, Sharing
from roadstead.domain.plan import Verdict
from roadstead.domain.quantity import in_words
from roadstead.domain.reasons import Reason
from roadstead.planner.memory.needs import Bounds, Needs
from roadstead.planner.suitability.capability import BuiltEngine, Path
from roadstead.planner.suitability.rows import Spread
from roadstead_weights.facts import ModelFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """What of a node nobody has been promised. Of its devices the inventory tells."""

    host_bytes: int | None = None
    disk_bytes: int | None = None
    """None too where the weights are there already."""
    cores: int | None = None


def held(needs: Needs, *, facts: ModelFacts, path: Path, devices: int) -> Needs:
    """The needs where weights are decompressed as they are loaded.

    By the number of weights, which is exact where each is an element of its own; by the bits of a weight for those that
    are packed, which takes what was never compressed for compressed, and is never too little.
    """
    if not path.held_bits:
        return needs
    by_number = facts.parameters * path.held_bits // 8
    by_bits = facts.tensor_bytes * path.held_bits // facts.weight_bits if facts.weight_bits else 0
    least = max(0, by_number - facts.tensor_bytes)
    most = max(least, by_bits - facts.tensor_bytes)
    if devices:
        return replace(needs, device=_more(needs.device, least // devices, most // devices))
    return replace(needs, host=_more(needs.host, least, most))


def place(bounds: Bounds, devices: Sequence[Device], size: int) -> tuple[tuple[Device, ...], Verdict | None]:
    """The ``size`` devices that are taken: of those that surely have room the fullest, else the freest that may do.

    With them why they are marginal, or, without any, why there are none.
    """
    by_room = sorted(devices, key=lambda device: (_room(device), device.id))
    sure = [device for device in by_room if _room(device) >= bounds.most]
    if len(sure) >= size:
        return tuple(sure[:size]), None
    possible = [device for device in by_room if _room(device) >= bounds.least]
    if len(possible) >= size:
        taken = tuple(possible[-size:])
        return taken, _marginal(f"{_in_words(bounds)} on {_each(size)}", _room(taken[0]))
    return (), _no_room(bounds, by_room, size)


def host_verdict(needs: Needs, free: Free) -> Verdict | None:
    """Shared memory is the host's too, and so are the pages of a mapped file: else they are read for every token."""
    beside = needs.shared_memory + needs.page_cache
    wanted = _more(needs.host, beside, beside)
    if free.host_bytes is None or free.host_bytes >= wanted.most:
        return None
    if free.host_bytes >= wanted.least:
        return _marginal(f"{_in_words(wanted)} of the host", free.host_bytes)
    return Verdict(
        reason=Reason.INSUFFICIENT_RAM,
        message=f"needs {_in_words(wanted)} of the host, {in_words(free.host_bytes)} are free",
    )


def disk_verdict(needs: Needs, free: Free) -> Verdict | None:
    if free.disk_bytes is None or free.disk_bytes >= needs.disk:
        return None
    return Verdict(
        reason=Reason.INSUFFICIENT_DISK,
        message=f"needs {in_words(needs.disk)} of disk for its weights, {in_words(free.disk_bytes)} are free",
    )


def cores_verdict(build: BuiltEngine, free: Free, *, devices: int) -> Verdict | None:
    """A whole core for each process that works for every token: with less, all of them wait for one another.

    One for an engine in one process. vLLM has a process for each device (or for the processor) and one that schedules:
    docs.vllm.ai, design/arch_overview; on two cores both kinds were seen to work.
    """
    ranks = max(1, devices) if build.table.spread is Spread.TENSORS else 1
    needed = build.table.own_processes + ranks
    if free.cores is None or free.cores >= needed:
        return None
    return Verdict(
        reason=Reason.INSUFFICIENT_CPU,
        message=f"{build.name} needs {needed} whole cores for its processes, {free.cores} are free"
        if needed > 1
        else f"{build.name} needs a whole core, {free.cores} are free",
    )


def _no_room(bounds: Bounds, by_room: Sequence[Device], size: int) -> Verdict:
    """The memory is not there; or it is, and others hold it; or the one process may not have all of it."""
    *_, freest = by_room
    what = f"needs {_in_words(bounds)} on {_each(size)}"
    has = f"{freest.product} has {in_words(freest.memory_bytes)}"
    if sum(_share(device) >= bounds.least for device in by_room) >= size:
        return Verdict(
            reason=Reason.FREE_MEMORY_BELOW_REQUEST,
            message=f"{what}, {has} of which {in_words(_room(freest))} are free: other processes hold the rest",
        )
    if freest.sharing is Sharing.MPS and freest.memory_bytes >= bounds.least:
        return Verdict(
            reason=Reason.SHARED_DEVICE_OVERCOMMIT,
            message=f"{what}, {has}, of which each of its {freest.clients} clients gets {in_words(_share(freest))}",
        )
    return Verdict(
        reason=Reason.INSUFFICIENT_VRAM,
        message=f"{what}; the largest free is {in_words(_room(freest))} of {in_words(freest.memory_bytes)}"
        + (f", of {len(by_room)} devices" if size > len(by_room) else ""),
    )


def _share(device: Device) -> int:
    """Of a device's memory what one process may have: MPS divides it, taking turns does not."""
    return device.memory_bytes // device.clients if device.sharing is Sharing.MPS else device.memory_bytes


def _room(device: Device) -> int:
    return _share(device) if device.free_bytes is None else min(_share(device), device.free_bytes)


def _more(bounds: Bounds, least: int, most: int) -> Bounds:
    return Bounds(least=bounds.least + least, most=bounds.most + most)


def _marginal(needed: str, free: int) -> Verdict:
    return Verdict(
        reason=Reason.MARGINAL_FIT, message=f"needs {needed}, {in_words(free)} are free: it may run, and may not"
    )


def _in_words(bounds: Bounds) -> str:
    least, most = in_words(bounds.least), in_words(bounds.most)
    return least if least == most else f"{least} to {most}"


def _each(size: int) -> str:
    return "a device" if size == 1 else f"each of {size} devices"
