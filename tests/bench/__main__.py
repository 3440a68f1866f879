"""``make bench``: everything that has an aim, measured in one run, as ratios in one table.

It judges nothing: a part that could not be measured says so in its line, and the others are measured all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from roadstead.embedded.fleet import Fleet
from tests.bench import memory
from tests.bench.figures import Figure, say, show
from tests.bench.fleet import bench_fleet
from tests.bench.gateway import GatewayCost, measure_gateway_cpu
from tests.bench.placement import measure_placement
from tests.bench.planning import measure_planning
from tests.bench.serving import measure_serving

_ROUNDS = 3


def main() -> None:
    """Progress while it runs, the table at the end."""
    started = time.monotonic()
    figures = part("memory", lambda: memory.figures(memory.measure_memory()))
    say("gateway CPU: a gateway and a bare proxy before a fake engine")
    figures += part("gateway CPU", lambda: _gateway(measure_gateway_cpu(rounds=_ROUNDS)))
    figures += part("placement", measure_placement)
    figures += part("a fleet", _in_a_fleet)
    show(figures)
    say(f"\n{time.monotonic() - started:.0f} s in all")


def part(name: str, measure: Callable[[], tuple[Figure, ...]]) -> tuple[Figure, ...]:
    """The figures of one part, or a line that says why there are none."""
    try:
        return measure()
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs into the table
        say(f"{name}: {error!r}")
        return (Figure(name, "not measured", "", str(error).partition("\n")[0] or repr(error)),)


def _in_a_fleet() -> tuple[Figure, ...]:
    with bench_fleet() as fleet:
        planning = part("apply → planned", lambda: asyncio.run(measure_planning(fleet)).figures())
        serving = part("serving", lambda: _serving(fleet))
    return (*serving, *planning)


def _serving(fleet: Fleet) -> tuple[Figure, ...]:
    return tuple(figure for each in asyncio.run(measure_serving(fleet)) for figure in each.figures())


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
