"""``make bench``: everything that has an aim, measured in one run, as ratios in one table. It judges nothing."""

from __future__ import annotations

import asyncio
import time

from roadstead.embedded.fleet import Fleet
from tests.bench import memory
from tests.bench.figures import Figure, say, show
from tests.bench.fleet import bench_fleet
from tests.bench.gateway import GatewayCost, measure_gateway_cpu
from tests.bench.planning import measure_planning
from tests.bench.serving import measure_serving

_ROUNDS = 3


def main() -> None:
    """Progress while it runs, the table at the end."""
    started = time.monotonic()
    figures = [*memory.figures(memory.measure_memory())]
    say("gateway CPU: a gateway and a bare proxy before a fake engine")
    figures += _gateway(measure_gateway_cpu(rounds=_ROUNDS))
    with bench_fleet() as fleet:
        figures += asyncio.run(_in_a_fleet(fleet))
    show(figures)
    say(f"\n{time.monotonic() - started:.0f} s in all")


async def _in_a_fleet(fleet: Fleet) -> list[Figure]:
    planning = await measure_planning(fleet)
    serving = await measure_serving(fleet)
    return [figure for each in serving for figure in each.figures()] + list(planning.figures())


def _gateway(cost: GatewayCost) -> tuple[Figure, Figure]:
    return (
        Figure(
            "CPU per unary request, gateway / bare proxy",
            f"{cost.unary_ratio:.2f}",
            "≤ 1.5",
            f"{cost.gateway_unary:.0f} and {cost.bare_unary:.0f} µs",
        ),
        Figure(
            "CPU per chunk of a stream, gateway / bare proxy",
            f"{cost.chunk_ratio:.2f}",
            "",
            f"{cost.gateway_chunk:.0f} and {cost.bare_chunk:.0f} µs",
        ),
    )


if __name__ == "__main__":
    main()
