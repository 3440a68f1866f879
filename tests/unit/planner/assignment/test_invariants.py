"""What holds of every assignment, whatever the fleet and what is asked of it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from roadstead.planner.assignment.floor import Floor
from roadstead.planner.assignment.problem import Assignment, Demand, Machine, Option, Problem, Shape
from roadstead.planner.assignment.solve import solve
from tests.fixtures.assignments import carried_out

KINDS = {"cpu": (), "card": (10,), "pair": (10, 10), "four": (8, 8, 8, 8)}
HOST = 12

settings.register_profile("slow", deadline=None)
settings.load_profile("slow")

shapes = st.builds(
    Shape, devices=st.sampled_from((0, 1, 2, 4)), device_bytes=st.integers(1, 10), host_bytes=st.integers(0, 6)
)


@st.composite
def options(draw: st.DrawFn) -> tuple[Option, ...]:
    found = {}
    for _ in range(draw(st.integers(0, 5))):
        shape = draw(shapes)
        kind = draw(st.sampled_from(sorted(KINDS)))
        if shape.devices > len(KINDS[kind]):
            continue
        if not shape.devices:
            shape = Shape(host_bytes=max(1, shape.host_bytes))
        rung = draw(st.sampled_from(("small", "large", "huge")))
        utility = draw(st.integers(1, 20)) / 10
        found[rung, kind] = Option(rung=rung, kind=kind, shape=shape, utility=utility)
    return tuple(found.values())


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    machines = tuple(
        Machine(name=f"m{number}", kind=kind, devices=KINDS[kind], host_bytes=HOST)
        for number, kind in enumerate(draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=6)))
    )
    demands = tuple(
        Demand(
            name=f"d{number}",
            replicas=draw(st.integers(1, 4)),
            band=draw(st.integers(0, 2)),
            options=draw(options()),
            spread=draw(st.booleans()),
        )
        for number in range(draw(st.integers(0, 6)))
    )
    return Problem(machines=machines, demands=demands, stay_bonus=draw(st.sampled_from((0.0, 0.3))))


def where(assignment: Assignment) -> Counter[tuple[str, str, str]]:
    return Counter((placed.demand, placed.machine, placed.option.rung) for placed in assignment.placed)


@given(problems())
def test_nothing_is_given_out_twice(problem: Problem) -> None:
    machines = {machine.name: machine for machine in problem.machines}
    host: Counter[str] = Counter()
    devices: Counter[tuple[str, int]] = Counter()
    for placed in solve(problem).placed:
        host[placed.machine] += placed.option.shape.host_bytes
        assert placed.option.kind == machines[placed.machine].kind
        assert len(set(placed.devices)) == len(placed.devices) == placed.option.shape.devices
        for at in placed.devices:
            devices[placed.machine, at] += placed.option.shape.device_bytes
    assert all(used <= machines[name].host_bytes for name, used in host.items())
    assert all(used <= machines[name].devices[at] for (name, at), used in devices.items())


@given(problems())
def test_no_more_is_placed_than_asked_for_and_what_is_spread_stands_alone(problem: Problem) -> None:
    placed = solve(problem).placed
    counts = Counter(each.demand for each in placed)
    on_one = Counter((each.demand, each.machine) for each in placed)
    for demand in problem.demands:
        assert counts[demand.name] <= demand.replicas
        assert not demand.spread or all(count == 1 for (name, _), count in on_one.items() if name == demand.name)


@given(problems())
def test_nothing_is_worth_more_than_the_bound(problem: Problem) -> None:
    assignment = solve(problem)
    assert assignment.utility <= assignment.bound + 1e-6


@given(problems(), st.randoms(use_true_random=False))
def test_the_order_in_which_things_are_told_does_not_matter(problem: Problem, draw: random.Random) -> None:
    machines, demands = list(problem.machines), list(problem.demands)
    draw.shuffle(machines)
    draw.shuffle(demands)
    other = replace(problem, machines=tuple(machines), demands=tuple(demands))
    assert where(solve(other)) == where(solve(problem))


@given(problems())
def test_what_was_assigned_once_is_assigned_again(problem: Problem) -> None:
    first = solve(problem)
    assert where(solve(carried_out(problem, first))) == where(first)


@given(problems())
def test_nothing_that_finds_room_is_left_out(problem: Problem) -> None:
    assignment = solve(problem)
    floor = Floor(problem.machines)
    for placed in assignment.placed:
        floor.put_back(placed)
    counts = Counter(each.demand for each in assignment.placed)
    for demand in problem.demands:
        if counts[demand.name] < demand.replicas:
            for option in demand.options:
                spot = floor.spot(demand, option)
                assert spot is None, (demand.name, option)


def test_room_that_a_replica_gives_up_for_a_better_way_to_run_is_taken_up() -> None:
    """Found by chance: the second demand began on both devices, and moved to the processor."""
    small = Option(rung="small", kind="pair", shape=Shape(devices=1, device_bytes=9), utility=0.1)
    beside = Option(rung="small", kind="pair", shape=Shape(host_bytes=1), utility=0.2)
    over = Option(rung="large", kind="pair", shape=Shape(devices=2, device_bytes=2), utility=0.1)
    problem = Problem(
        machines=(Machine(name="m0", kind="pair", devices=(10, 10), host_bytes=12),),
        demands=(
            Demand(name="d0", replicas=1, options=(small,)),
            Demand(name="d1", replicas=2, options=(beside, over), spread=True),
        ),
    )

    assert Counter(each.demand for each in solve(problem).placed) == {"d0": 1, "d1": 1}


@given(problems())
def test_a_lower_band_holds_no_room_that_would_place_something_of_a_higher_one(problem: Problem) -> None:
    assignment = solve(problem)
    counts = Counter(each.demand for each in assignment.placed)
    bands = {demand.name: demand.band for demand in problem.demands}
    for demand in problem.demands:
        if counts[demand.name] == demand.replicas:
            continue
        floor = Floor(problem.machines)
        for placed in assignment.placed:
            if bands[placed.demand] >= demand.band:
                floor.put_back(placed)
        for option in demand.options:
            spot = floor.spot(demand, option)
            assert spot is None, (demand.name, option)
