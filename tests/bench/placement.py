"""Placement of whole fleets: what is reached of what could be reached at most, beside what others do.

The bound is that of a linear relaxation: no placement is worth more. Two rules that others go by run on the same fleet:

- ``binpack``: the first variant that fits, in the order in which a ladder is written, on the fullest machine; models in
  the order in which they came;
- ``greedy``: each model's most useful option that fits, on the fullest machine, the most useful models first.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from roadstead.planner.assignment.floor import Floor
from roadstead.planner.assignment.problem import Assignment, Demand, Option, Problem
from roadstead.planner.assignment.solve import solve
from tests.bench.figures import Figure, say
from tests.bench.fleets import fleet
from tests.fixtures.assignments import carried_out

_FLEETS: Final = ((1000, 1000, 0.99, 3), (300, 1000, 0.97, 3), (1000, 4000, 0.97, 20))
"""Machines, models, and the aims: share of the bound, seconds."""
_LOST: Final = 0.05


def measure_placement() -> tuple[Figure, ...]:
    """All fleets; then one of them loses machines."""
    found: list[Figure] = []
    for machines, models, share, seconds in _FLEETS:
        say(f"placement: {models} models on {machines} machines")
        problem = fleet(machines, models)
        assignment, took = _timed(problem)
        others = ", ".join(
            f"{name} {_worth(problem, rule) / assignment.bound:.3f}"
            for name, rule in (("binpack", _as_written), ("greedy", _most_useful))
        )
        what = f"placement, {models} models on {machines} machines"
        wanted = sum(demand.replicas for demand in problem.demands)
        behind = f"{len(assignment.placed)} of {wanted} replicas; {others}"
        found.append(Figure(what, f"{assignment.utility / assignment.bound:.4f}", f"≥ {share}", behind))
        found.append(Figure("  in", f"{took:.1f} s", f"≤ {seconds} s"))
    return (*found, *_after_a_loss(fleet(1000, 1000)), *_one_more(fleet(1000, 1001)))


def _after_a_loss(problem: Problem) -> tuple[Figure, ...]:
    before = carried_out(problem, solve(problem))
    lost = {machine.name for machine in problem.machines[:: int(1 / _LOST)]}
    less = replace(before, machines=tuple(each for each in problem.machines if each.name not in lost))
    assignment, took = _timed(less)
    stood = Counter((demand.name, each.machine, each.rung) for demand in before.demands for each in demand.standing)
    there = Counter((each.demand, each.machine, each.option.rung) for each in assignment.placed)
    homeless = sum(count for (_, machine, _), count in stood.items() if machine in lost)
    moved = (stood - there).total() - homeless
    return (
        Figure(
            "moved beside what stood on them, after 5 % of the machines are lost", str(moved), "0", f"{homeless} did"
        ),
        Figure("  in", f"{took:.2f} s", ""),
    )


def _one_more(problem: Problem) -> tuple[Figure, ...]:
    """A model that comes to a fleet in which all others are served."""
    newcomer = problem.demands[-1]
    others = replace(problem, demands=problem.demands[:-1])
    there = carried_out(others, solve(others))
    assignment, took = _timed(replace(there, demands=(*there.demands, newcomer)))
    placed = sum(each.demand == newcomer.name for each in assignment.placed)
    return (
        Figure("one model more, replicas placed", f"{placed} of {newcomer.replicas}", ""),
        Figure("  in", f"{1000 * took:.0f} ms", "≤ 50 ms"),
    )


Rule = Callable[[tuple[Demand, ...]], Iterable[tuple[Demand, tuple[Option, ...]]]]


def _as_written(demands: tuple[Demand, ...]) -> Iterable[tuple[Demand, tuple[Option, ...]]]:
    return ((demand, demand.options) for demand in demands)


def _most_useful(demands: tuple[Demand, ...]) -> Iterable[tuple[Demand, tuple[Option, ...]]]:
    ranked = [(demand, tuple(sorted(demand.options, key=lambda each: -each.utility))) for demand in demands]
    return sorted(ranked, key=lambda each: -each[1][0].utility if each[1] else 0.0)


def _worth(problem: Problem, rule: Rule) -> float:
    floor = Floor(problem.machines)
    worth = 0.0
    for demand, options in rule(problem.demands):
        missing = demand.replicas
        for option in options:
            while missing:
                spot = floor.spot(demand, option)
                if spot is None:
                    break
                worth += floor.put(demand.name, option, spot).option.utility
                missing -= 1
    return worth


def _timed(problem: Problem) -> tuple[Assignment, float]:
    began = time.perf_counter()
    result = solve(problem)
    return result, time.perf_counter() - began


if __name__ == "__main__":
    from tests.bench.figures import show

    show(measure_placement())
