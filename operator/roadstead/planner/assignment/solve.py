"""From the relaxation to replicas on machines.

What stands stays where it can. Then band by band from the highest: the relaxation says how the missing replicas are
best run in what is free; what it wants as a whole is packed, the large first; what is left over goes, the most valuable
first, where it is worth most after the prices of what it takes; what finds no room takes it from lower bands, and from
nobody if that is not enough. At last single replicas are bettered where that is worth more than a move costs.

A solution that stands is its own solution: nothing is missing that could be placed, and nothing can be bettered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import floor as whole

from roadstead.planner.assignment.floor import Floor, Spot
from roadstead.planner.assignment.problem import Assignment, Demand, Machine, Option, Placed, Problem, Standing
from roadstead.planner.assignment.relaxation import Limits, Relaxed, relax

_ALMOST = 1e-9
_LOOKS = 100_000
"""At replicas that might shrink for one that lacks room: all of them in a small fleet, some in a large one, where what
is packed comes near to the bound anyway."""
_PASSES = 8
"""Over all replicas, to better them."""


def solve(problem: Problem) -> Assignment:
    """The assignment. Equal problems have equal assignments, whatever their order."""
    work = _Work(problem)
    work.keep_what_stands()
    bound = work.value_of_standing()
    for band in sorted({demand.band for demand in problem.demands}, reverse=True):
        bound += work.place(band)
    work.better()
    placed = work.placed()
    return Assignment(placed=placed, utility=sum(each.option.utility for each in placed), bound=bound)


class _Work:
    """The demands being placed."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._floor = Floor(problem.machines)
        self._demands = {demand.name: demand for demand in sorted(problem.demands, key=lambda each: each.name)}
        self._of: dict[str, list[Placed]] = {name: [] for name in self._demands}
        self._looks = _LOOKS

    def placed(self) -> tuple[Placed, ...]:
        return tuple(
            sorted(
                (each for those in self._of.values() for each in those),
                key=lambda each: (each.demand, each.machine, each.option.rung, each.devices),
            )
        )

    def keep_what_stands(self) -> None:
        """Each replica on its machine, the higher bands first where there is not room for all of them any more."""
        for demand in sorted(self._demands.values(), key=lambda each: (-each.band, each.name)):
            for each in sorted(demand.standing):
                option = self._option(demand, each.machine, each.rung)
                if option is not None and self._missing(demand) > 0:
                    self._put_at(demand, option, self._floor.at(each.machine, each.devices, option.shape))

    def value_of_standing(self) -> float:
        return sum(each.option.utility for those in self._of.values() for each in those)

    def place(self, band: int) -> float:
        """The missing replicas of a band; what they are worth at most."""
        demands = [each for each in self._demands.values() if each.band == band and self._missing(each) > 0]
        if not demands:
            return 0.0
        free = self._floor.machines()
        missing = [each.lacking(self._missing(each)) for each in demands]
        relaxed = relax(free, missing)
        self._pack(demands, relaxed)
        prices = _Prices(free, relaxed)
        self._fill(demands, prices)
        self._squeeze(demands, prices)
        self._preempt(demands, prices)
        return relaxed.bound

    def better(self) -> None:
        """Replicas move to a better way to run, as long as that is worth more than a move.

        Who lacks some takes up what becomes free.
        """
        for _ in range(_PASSES):
            bettered = [demand.name for demand in self._demands.values() if self._better(demand)]
            if not bettered:
                return
            self._take_up()

    def _take_up(self) -> None:
        """The higher bands first, and in each the most useful."""
        lacking = [demand for demand in self._demands.values() if self._missing(demand) > 0 and demand.options]
        ranked = [(demand, sorted(demand.options, key=_most_useful_first)) for demand in lacking]
        for demand, options in sorted(ranked, key=lambda each: (-each[0].band, -each[1][0].utility, each[0].name)):
            for option in options:
                while self._missing(demand) > 0 and self._put(demand, option):
                    pass

    def _pack(self, demands: Sequence[Demand], relaxed: Relaxed) -> None:
        wanted = [
            (demands[column.demand], demands[column.demand].options[column.option], whole(amount + 1e-6))
            for column, amount in relaxed.wanted
        ]
        for demand, option, count in sorted(wanted, key=lambda each: _large_first(each[1], each[0])):
            for _ in range(min(count, self._missing(demand))):
                if not self._put(demand, option):
                    break

    def _fill(self, demands: Iterable[Demand], prices: _Prices) -> None:
        left = [demand for demand in demands if self._missing(demand) > 0]
        for demand in sorted(left, key=lambda each: (-prices.best(each), each.name)):
            for option in prices.ranked(demand):
                while self._missing(demand) > 0 and self._put(demand, option):
                    pass

    def _squeeze(self, demands: Iterable[Demand], prices: _Prices) -> None:
        """Replicas shrink to a lesser rung where that makes room for one that would not run, and is worth it."""
        left = [demand for demand in demands if self._missing(demand) > 0]
        for demand in sorted(left, key=lambda each: (-prices.best(each), each.name)):
            while self._missing(demand) > 0 and self._looks > 0 and self._shrink_for(demand):
                pass

    def _shrink_for(self, demand: Demand) -> bool:
        """Put one replica where another one shrinks for it, so that most is gained."""
        there: dict[str, list[Placed]] = defaultdict(list)
        for other in self._demands.values():
            for each in self._of[other.name] if other.band <= demand.band else ():
                there[each.machine].append(each)
        best: tuple[float, str, str] | None = None
        swap: tuple[Option, Placed, Option] | None = None
        for option in demand.options:
            for machine in self._floor.kinds[option.kind]:
                if self._looks <= 0 or self._floor.refuses(demand, option.rung, machine):
                    continue
                for placed in there.get(machine, ()):
                    for smaller in self._smaller(placed):
                        self._looks -= 1
                        gain = option.utility + smaller.utility - placed.option.utility
                        order = (-gain, machine, option.rung)
                        better = gain > _ALMOST and (best is None or order < best)
                        if better and self._would_fit(option, placed, smaller):
                            best, swap = order, (option, placed, smaller)
        if swap is None:
            return False
        option, placed, smaller = swap
        self._remove(placed)
        self._put_at(self._demands[placed.demand], smaller, self._floor.on(placed.machine, smaller.shape))
        return self._put_at(demand, option, self._floor.on(placed.machine, option.shape))

    def _smaller(self, placed: Placed) -> list[Option]:
        """Ways of the same replica on the same kind of machine that take less."""
        demand, shape = self._demands[placed.demand], placed.option.shape
        return [
            each
            for each in demand.options
            if each.kind == placed.option.kind
            and (each.rung, placed.machine) not in demand.barred
            and each.shape.devices <= shape.devices
            and each.shape.device_bytes <= shape.device_bytes
            and each.shape.host_bytes <= shape.host_bytes
            and each.shape != shape
        ]

    def _would_fit(self, option: Option, placed: Placed, smaller: Option) -> bool:
        """Whether the option has room on the machine once what is placed there has shrunk."""
        self._floor.take(placed)
        spot = self._floor.on(placed.machine, smaller.shape)
        fits = False
        if spot is not None:
            shrunk = self._floor.put(placed.demand, smaller, spot)
            fits = self._floor.on(placed.machine, option.shape) is not None
            self._floor.take(shrunk)
        self._floor.put_back(placed)
        return fits

    def _preempt(self, demands: Iterable[Demand], prices: _Prices) -> None:
        left = [demand for demand in demands if self._missing(demand) > 0]
        for demand in sorted(left, key=lambda each: (-prices.best(each), each.name)):
            while self._missing(demand) > 0 and self._take_room(demand):
                pass

    def _take_room(self, demand: Demand) -> bool:
        """Put one replica in the place of those of lower bands that are worth least."""
        lower = self._lower(demand.band)
        if not lower:
            return False
        offers = [
            (sum(each.option.utility for each in victims), -option.utility, option.rung, machine, option, victims)
            for option in demand.options
            for machine in self._floor.kinds[option.kind]
            if not self._floor.refuses(demand, option.rung, machine)
            if (victims := self._victims(option, lower.get(machine, ()), machine)) is not None
        ]
        if not offers:
            return False
        *_, machine, option, victims = min(offers, key=lambda offer: offer[:4])
        for victim in victims:
            self._remove(victim)
        return self._put_at(demand, option, self._floor.on(machine, option.shape))

    def _lower(self, band: int) -> dict[str, list[Placed]]:
        found: dict[str, list[Placed]] = defaultdict(list)
        for demand in self._demands.values():
            if demand.band < band:
                for each in self._of[demand.name]:
                    found[each.machine].append(each)
        for those in found.values():
            those.sort(key=lambda each: (self._demands[each.demand].band, each.option.utility, each.demand))
        return found

    def _victims(self, option: Option, lower: Sequence[Placed], machine: str) -> tuple[Placed, ...] | None:
        """The fewest and least that make room there; None if nothing does."""
        taken: list[Placed] = []
        for each in lower:
            if self._floor.on(machine, option.shape) is not None:
                break
            self._floor.take(each)
            taken.append(each)
        fits = self._floor.on(machine, option.shape) is not None
        needed: list[Placed] = []
        for each in reversed(taken):
            self._floor.put_back(each)
            if fits and self._floor.on(machine, option.shape) is None:
                self._floor.take(each)
                needed.append(each)
        for each in needed:
            self._floor.put_back(each)
        return tuple(needed) if fits and needed else None

    def _better(self, demand: Demand) -> bool:
        moved = False
        for at, placed in enumerate(self._of[demand.name]):
            least = placed.option.utility + (self._problem.stay_bonus if _stands(demand, placed) else 0.0) + _ALMOST
            better = [option for option in demand.options if option.utility > least]
            if better:
                better.sort(key=_most_useful_first)
                self._of[demand.name][at] = self._moved(demand, placed, better)
                moved = moved or self._of[demand.name][at] is not placed
        return moved

    def _moved(self, demand: Demand, placed: Placed, better: Iterable[Option]) -> Placed:
        """The replica by the first of these ways that has room without it; else as it is."""
        self._floor.take(placed)
        for option in better:
            spot = self._floor.spot(demand, option)
            if spot is not None:
                return self._floor.put(demand.name, option, spot)
        self._floor.put_back(placed)
        return placed

    def _option(self, demand: Demand, machine: str, rung: str) -> Option | None:
        """The option by which a replica stands there; None if it may not any more."""
        if not self._floor.knows(machine):
            return None
        kind = self._floor.kind(machine)
        return next((each for each in demand.options if (each.kind, each.rung) == (kind, rung)), None)

    def _missing(self, demand: Demand) -> int:
        return demand.replicas - len(self._of[demand.name])

    def _put(self, demand: Demand, option: Option) -> bool:
        return self._put_at(demand, option, self._floor.spot(demand, option))

    def _put_at(self, demand: Demand, option: Option, spot: Spot | None) -> bool:
        if spot is None or self._floor.refuses(demand, option.rung, spot.machine):
            return False
        self._of[demand.name].append(self._floor.put(demand.name, option, spot))
        return True

    def _remove(self, placed: Placed) -> None:
        self._of[placed.demand].remove(placed)
        self._floor.take(placed)


class _Prices:
    """What room costs, as the relaxation found."""

    def __init__(self, machines: Iterable[Machine], relaxed: Relaxed) -> None:
        by_kind: dict[str, list[Machine]] = defaultdict(list)
        for machine in machines:
            by_kind[machine.kind].append(machine)
        self._limits = {kind: Limits(members) for kind, members in by_kind.items()}
        self._relaxed = relaxed
        self._nets: dict[str, list[tuple[float, Option]]] = {}

    def best(self, demand: Demand) -> float:
        """What a replica of it is worth after prices."""
        nets = self._of(demand)
        return nets[0][0] if nets else 0.0

    def ranked(self, demand: Demand) -> list[Option]:
        return [option for _, option in self._of(demand)]

    def _of(self, demand: Demand) -> list[tuple[float, Option]]:
        found = self._nets.get(demand.name)
        if found is None:
            nets = ((option.utility - self._price(option), option) for option in demand.options)
            found = sorted(nets, key=lambda each: (-each[0], *_most_useful_first(each[1])))
            self._nets[demand.name] = found
        return found

    def _price(self, option: Option) -> float:
        limits = self._limits.get(option.kind)
        if limits is None:
            return 0.0
        return float(limits.use(option.shape) * limits.units @ self._relaxed.prices[option.kind])


def _stands(demand: Demand, placed: Placed) -> bool:
    return Standing(placed.machine, placed.option.rung, placed.devices) in demand.standing


def _most_useful_first(option: Option) -> tuple[float, str, str]:
    return (-option.utility, option.rung, option.kind)


def _large_first(option: Option, demand: Demand) -> tuple[object, ...]:
    shape = option.shape
    return (-shape.devices, -shape.device_bytes, -shape.host_bytes, -option.utility, demand.name, option.rung)
