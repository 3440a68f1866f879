"""Fleets to place: machines from T4 to H200, MI300X and without accelerators, and models with eight kinds of variants.

Everything follows from the seed. Sizes of models and shares of machines are like those of fleets that grew: many small
cards, few large ones, and more models than fit in their best variant.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

from roadstead.planner.assignment.problem import Demand, Machine, Option, Problem, Shape

GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Hardware:
    """A kind of machine: what is free on it, how fast its memory is and what may run there."""

    name: str
    share: float
    devices: int
    device_gib: float
    host_gib: int
    gb_per_second: float
    capability: float
    vendor: str = "nvidia"


HARDWARE: Final = (
    Hardware("T4", 0.18, 1, 14.6, 48, 320, 7.5),
    Hardware("V100", 0.06, 4, 31.0, 256, 900, 7.0),
    Hardware("L4", 0.18, 2, 22.0, 96, 300, 8.9),
    Hardware("A10", 0.12, 2, 22.0, 128, 600, 8.6),
    Hardware("L40S", 0.12, 4, 44.0, 384, 864, 8.9),
    Hardware("A100", 0.08, 8, 78.0, 960, 2039, 8.0),
    Hardware("H100", 0.05, 8, 78.0, 1920, 3350, 9.0),
    Hardware("H200", 0.03, 8, 138.0, 1920, 4800, 9.0),
    Hardware("MI300X", 0.03, 8, 188.0, 1920, 5300, 0.0, "amd"),
    Hardware("CPU", 0.15, 0, 0.0, 240, 200, 0.0, "none"),
)


@dataclass(frozen=True, slots=True)
class Precision:
    """A kind of variant: bits per weight, its quality, and who can serve it."""

    name: str
    bits: float
    quality: float
    gguf: bool
    least_capability: float = 0.0


PRECISIONS: Final = (
    Precision("bf16", 16.0, 1.0, gguf=False, least_capability=8.0),
    Precision("fp8", 8.5, 0.996, gguf=False, least_capability=7.5),
    Precision("gptq-8", 8.6, 0.995, gguf=False, least_capability=7.5),
    Precision("awq-4", 4.6, 0.972, gguf=False, least_capability=7.5),
    Precision("q8_0", 8.5, 0.998, gguf=True),
    Precision("q5_k_m", 5.7, 0.985, gguf=True),
    Precision("q4_k_m", 4.85, 0.97, gguf=True),
    Precision("q2_k", 3.0, 0.87, gguf=True),
)
SIZES: Final = ((0.6, 10), (1.7, 12), (4, 16), (8, 24), (14, 14), (32, 12), (70, 9), (123, 2), (235, 1))
"""Parameters in thousands of millions, and how common they are."""


def machines(count: int, *, seed: int = 0, tainted: float = 0.1) -> tuple[Machine, ...]:
    """So many machines; a share of each kind is kept for those who tolerate it."""
    draw = random.Random(seed)
    found = []
    kinds = draw.choices(HARDWARE, [each.share for each in HARDWARE], k=count)
    for number, hardware in enumerate(kinds):
        taint = "/kept" if draw.random() < tainted else ""
        found.append(
            Machine(
                name=f"m{number:05}",
                kind=hardware.name + taint,
                devices=(int(hardware.device_gib * GIB),) * hardware.devices,
                host_bytes=int(hardware.host_gib * GIB * 0.9),
            )
        )
    return tuple(found)


def demands(count: int, *, seed: int = 0, bands: int = 1) -> tuple[Demand, ...]:
    """So many models."""
    draw = random.Random(seed + 1)
    return tuple(_demand(f"d{number:05}", draw, bands) for number in range(count))


def fleet(machine_count: int, demand_count: int, *, seed: int = 0, bands: int = 1) -> Problem:
    return Problem(machines=machines(machine_count, seed=seed), demands=demands(demand_count, seed=seed, bands=bands))


def _demand(name: str, draw: random.Random, bands: int) -> Demand:
    billions = draw.choices([size for size, _ in SIZES], [weight for _, weight in SIZES])[0]
    replicas = draw.choices((1, 2, 3, 4, 6), (50, 25, 10, 10, 5))[0]
    context = draw.choice((4096, 8192, 16384, 32768))
    sequences = draw.choice((1, 4, 8))
    tolerates = draw.random() < 0.3
    slowest = draw.choice((0.0, 0.0, 5.0, 15.0))
    worth = draw.choice((1.0, 1.0, 1.0, 2.0, 4.0))
    ladder = draw.sample(PRECISIONS, k=draw.randint(3, 8))
    layers = 16 * math.sqrt(billions)
    cache = int(2 * layers * 8 * 128 * 2 * context * sequences * min(1.0, 0.3 + billions / 20))
    options = []
    for precision in ladder:
        weights = int(billions * 1e9 * precision.bits / 8)
        for hardware in HARDWARE:
            shape = _shape(weights, cache, precision, hardware)
            if shape is None:
                continue
            speed = 0.7 * hardware.gb_per_second * max(1, shape.devices) * 1e9 / weights
            if speed < slowest:
                continue
            utility = worth * (precision.quality + 0.15 * min(1.0, speed / 60))
            kinds = (hardware.name, hardware.name + "/kept") if tolerates else (hardware.name,)
            options += [
                Option(rung=precision.name, kind=kind, shape=shape, utility=utility - 0.02 * (kind != hardware.name))
                for kind in kinds
            ]
    return Demand(
        name=name,
        replicas=replicas,
        band=draw.randrange(bands),
        options=tuple(options),
        spread=replicas > 1 and draw.random() < 0.3,
    )


def _shape(weights: int, cache: int, precision: Precision, hardware: Hardware) -> Shape | None:
    """On as few devices as it takes; None if it cannot run there."""
    if not hardware.devices:
        need = int(weights + cache + 0.3 * GIB)
        return Shape(host_bytes=need) if precision.gguf and need <= hardware.host_gib * GIB * 0.9 else None
    if not precision.gguf and hardware.vendor == "nvidia" and hardware.capability < precision.least_capability:
        return None
    for devices in (1, 2, 4, 8):
        if devices > hardware.devices:
            return None
        overhead = 0.6 if precision.gguf else 2.3
        need = int((weights * 1.05 + cache) / devices + overhead * GIB)
        if need <= hardware.device_gib * GIB:
            host = int(2 * GIB + 0.02 * weights)
            return Shape(devices=devices, device_bytes=need, host_bytes=host)
    return None
