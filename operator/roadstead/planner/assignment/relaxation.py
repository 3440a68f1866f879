"""The linear relaxation over kinds of machines: what the fleet is worth at most, and roughly how it gets there.

Kinds pool their machines' memory, which promises more than can be packed; rows that count what is larger than a half or
a third of a device take most of that back.

Few rows hold thousands of demands together, so prices of those rows decide nearly everything. They are learned from a
sample of the demands, each demand's few best ways to run at these prices are solved for, and whatever the prices that
follow make worth having is added until nothing is. Work is limited by rounds and simplex iterations, never by time:
equal input gives equal output on any machine. A limit that is reached costs quality, not honesty: the bound holds for
whatever prices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import highspy
import numpy as np
import numpy.typing as npt

from roadstead.planner.assignment.problem import Demand, Machine, Option, Shape

_ROUNDS = 12
_ITERATIONS = 200_000
"""Of the simplex method, in one round."""
_SAMPLE = 8
"""One demand of so many tells the first prices."""
_FIRST = 4
_FURTHER = 2
"""Columns of a demand that are looked at in the first round, and added in each further one."""
_WORTH = 1e-6
_ROWS = 6
"""Limits of a kind of machines."""

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Column:
    """Replicas of one demand that run by one of its options."""

    demand: int
    option: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxed:
    """The relaxation's optimum."""

    bound: float
    """No assignment is worth more."""
    wanted: tuple[tuple[Column, float], ...]
    """Columns that are used, and by how many replicas."""
    prices: Mapping[str, Floats]
    """By kind, the worth of one unit more of each of its limits."""
    rounds: int


class Limits:
    """What machines of one kind can hold together."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        memory = [size for machine in machines for size in machine.devices]
        host = [machine.host_bytes for machine in machines]
        self._largest = max(memory, default=0)
        self._largest_host = max(host, default=0)
        count = len(machines)
        self.units = np.array([max(1.0, sum(memory)) / count, 1.0, 1.0, max(1.0, sum(host)) / count, 1.0, 1.0])
        """What the rows count in: a machine's mean memory, devices, machines."""
        most = [sum(memory), len(memory), 2 * len(memory), sum(host), count, 2 * count]
        self.most = np.array(most) / self.units

    def use(self, shape: Shape) -> Floats:
        """What a replica takes of each limit."""
        halves = shape.devices * (2 * shape.device_bytes > self._largest)
        thirds = shape.devices * (3 * shape.device_bytes > self._largest)
        host_halves = 2 * shape.host_bytes > self._largest_host
        host_thirds = 3 * shape.host_bytes > self._largest_host
        device_bytes = shape.devices * shape.device_bytes
        taken: Floats = (
            np.array([device_bytes, halves, thirds, shape.host_bytes, host_halves, host_thirds]) / self.units
        )
        return taken


def relax(machines: Iterable[Machine], demands: Sequence[Demand]) -> Relaxed:
    """Solve it for demands of which nothing runs yet."""
    by_kind: dict[str, list[Machine]] = defaultdict(list)
    for machine in machines:
        by_kind[machine.kind].append(machine)
    limits = {kind: Limits(members) for kind, members in sorted(by_kind.items())}
    table = _Table(demands, by_kind, limits)
    every = np.arange(len(demands))
    sample = table.of_demands(every[::_SAMPLE])
    prices = _Master(table, sample, share=1 / _SAMPLE).solve().prices
    master = _Master(table, table.best(table.net(prices), _FIRST))
    rounds = 0
    while True:
        rounds += 1
        found = master.solve()
        reduced = table.net(found.prices) - found.worth[table.demand]
        reduced[master.columns] = 0.0
        better = table.best(reduced, _FURTHER, least=_WORTH)
        if not len(better) or rounds == _ROUNDS:
            break
        master.add(better)
    used = np.flatnonzero(found.amounts > _WORTH)
    return Relaxed(
        bound=found.value if not len(better) else min(table.bound(prices), table.bound(found.prices)),
        wanted=tuple((table.columns[master.columns[at]], float(found.amounts[at])) for at in used),
        prices={
            kind: found.prices[_ROWS * at : _ROWS * at + _ROWS] / limits[kind].units for at, kind in enumerate(limits)
        },
        rounds=rounds,
    )


class _Table:
    """All columns, as arrays."""

    def __init__(
        self,
        demands: Sequence[Demand],
        by_kind: Mapping[str, Sequence[Machine]],
        limits: Mapping[str, Limits],
    ) -> None:
        self.columns: list[Column] = []
        worth: list[float] = []
        most: list[float] = []
        base: list[int] = []
        use: list[Floats] = []
        numbers = {kind: number for number, kind in enumerate(limits)}
        uses: dict[tuple[str, Shape], Floats] = {}
        for number, demand in enumerate(demands):
            for which in _undominated(demand):
                option = demand.options[which]
                if option.kind not in limits:
                    continue
                taken = uses.get((option.kind, option.shape))
                if taken is None:
                    taken = uses[option.kind, option.shape] = limits[option.kind].use(option.shape)
                self.columns.append(Column(number, which))
                worth.append(option.utility)
                most.append(min(demand.replicas, len(by_kind[option.kind])) if demand.spread else demand.replicas)
                base.append(numbers[option.kind])
                use.append(taken)
        self.worth: Floats = np.array(worth)
        self.most: Floats = np.array(most, dtype=np.float64)
        self.demand: Indices = np.array([column.demand for column in self.columns], dtype=np.int64)
        self.rows: Indices = _ROWS * np.array(base, dtype=np.int64)[:, None] + np.arange(_ROWS)
        """Rows of the limits that each column takes of."""
        self.use: Floats = np.array(use).reshape(-1, _ROWS)
        self.replicas: Floats = np.array([demand.replicas for demand in demands], dtype=np.float64)
        self.limits: Floats = np.concatenate([limit.most for limit in limits.values()]) if limits else np.zeros(0)

    def net(self, prices: Floats) -> Floats:
        """What each column is worth after the prices of what it takes."""
        result: Floats = self.worth - (self.use * prices[self.rows]).sum(axis=1)
        return result

    def of_demands(self, demands: Indices) -> Indices:
        return np.flatnonzero(np.isin(self.demand, demands))

    def best(self, score: Floats, count: int, *, least: float = -np.inf) -> Indices:
        """Of each demand the columns with the highest scores above ``least``, so many at most."""
        able = np.flatnonzero(score > least)
        order = able[np.lexsort((-score[able], self.demand[able]))]
        ordered = self.demand[order]
        first = np.searchsorted(ordered, ordered, side="left")
        return order[np.arange(len(order)) - first < count]

    def bound(self, prices: Floats) -> float:
        """What all of it is worth at most, by whatever prices."""
        best = np.zeros(len(self.replicas))
        np.maximum.at(best, self.demand, self.net(prices))
        return float(best @ self.replicas + prices @ self.limits)


@dataclass(frozen=True, slots=True)
class _Found:
    """A round's solution."""

    value: float
    amounts: Floats
    prices: Floats
    worth: Floats
    """By demand, what one replica more would be worth."""


class _Quiet(highspy.Highs):
    """Without its callbacks: to set them up prints a banner, before anything can be said against it."""

    def __init__(self) -> None:
        super(highspy.Highs, self).__init__()


class _Master:
    """The linear program over some of the columns."""

    def __init__(self, table: _Table, columns: Indices, *, share: float = 1.0) -> None:
        self._table = table
        self._demands = len(table.replicas)
        self.columns: Indices = np.zeros(0, dtype=np.int64)
        self._solver = _Quiet()
        for name, value in (("output_flag", False), ("threads", 1), ("simplex_iteration_limit", _ITERATIONS)):
            self._solver.setOptionValue(name, value)
        self._solver.changeObjectiveSense(highspy.ObjSense.kMaximize)
        upper = np.concatenate([table.replicas, table.limits * share])
        none = np.zeros(0)
        self._solver.addRows(
            len(upper),
            np.full(len(upper), -highspy.kHighsInf),
            upper,
            0,
            none.astype(np.int32),
            none.astype(np.int32),
            none,
        )
        self.add(columns)

    def add(self, columns: Indices) -> None:
        """Further columns; the basis found so far stays."""
        table = self._table
        index = np.concatenate([table.demand[columns][:, None], table.rows[columns] + self._demands], axis=1)
        value = np.concatenate([np.ones((len(columns), 1)), table.use[columns]], axis=1)
        taken = value != 0
        counts = taken.sum(axis=1)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(columns) else np.zeros(0)
        self._solver.addCols(
            len(columns),
            table.worth[columns],
            np.zeros(len(columns)),
            table.most[columns],
            int(counts.sum()),
            starts.astype(np.int32),
            index[taken].astype(np.int32),
            value[taken],
        )
        self.columns = np.concatenate([self.columns, columns])

    def solve(self) -> _Found:
        self._solver.run()
        solution = self._solver.getSolution()
        duals = np.maximum(0.0, np.array(solution.row_dual))
        return _Found(
            value=self._solver.getInfo().objective_function_value,
            amounts=np.array(solution.col_value),
            prices=duals[self._demands :],
            worth=duals[: self._demands],
        )


def _undominated(demand: Demand) -> list[int]:
    """Options that no other on the same kind of machine beats in worth and in all that it takes."""
    kept: dict[str, list[Option]] = defaultdict(list)
    found = []
    for which in sorted(range(len(demand.options)), key=lambda each: -demand.options[each].utility):
        option = demand.options[which]
        if not any(_takes_no_more(other.shape, option.shape) for other in kept[option.kind]):
            kept[option.kind].append(option)
            found.append(which)
    return sorted(found)


def _takes_no_more(one: Shape, other: Shape) -> bool:
    return (
        one.devices * one.device_bytes <= other.devices * other.device_bytes
        and one.device_bytes <= other.device_bytes
        and one.devices <= other.devices
        and one.host_bytes <= other.host_bytes
    )
