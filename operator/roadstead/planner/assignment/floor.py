"""What is free on each machine while replicas are put on them, and where one fits best.

Best fit: of the devices that have room the fullest, so that large pieces stay whole; of machines with several devices
the ones whose devices are in use already, so that whole machines stay free for tensor parallelism.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from roadstead.planner.assignment.problem import Demand, Machine, Option, Placed, Shape


@dataclass(frozen=True, slots=True)
class Spot:
    """Room for one replica."""

    machine: str
    devices: tuple[int, ...]


class Floor:
    """The machines as they fill up."""

    def __init__(self, machines: Iterable[Machine]) -> None:
        self._machines = {machine.name: machine for machine in machines}
        self._host = {name: machine.host_bytes for name, machine in self._machines.items()}
        self._devices = {name: list(machine.devices) for name, machine in self._machines.items()}
        self._by_device: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
        """By kind, every device by what is free on it."""
        self._by_host: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self._of_demand: dict[tuple[str, str], int] = defaultdict(int)
        self.kinds: dict[str, list[str]] = defaultdict(list)
        for name, machine in sorted(self._machines.items()):
            self.kinds[machine.kind].append(name)
            self._by_host[machine.kind].append((machine.host_bytes, name))
            self._by_device[machine.kind] += [(size, name, at) for at, size in enumerate(machine.devices)]
        for devices in self._by_device.values():
            devices.sort()
        for hosts in self._by_host.values():
            hosts.sort()

    def machines(self) -> list[Machine]:
        """As they are now."""
        return [
            Machine(name=name, kind=machine.kind, devices=tuple(self._devices[name]), host_bytes=self._host[name])
            for name, machine in sorted(self._machines.items())
        ]

    def knows(self, machine: str) -> bool:
        return machine in self._machines

    def kind(self, machine: str) -> str:
        return self._machines[machine].kind

    def refuses(self, demand: Demand, rung: str, machine: str) -> bool:
        """Whether a machine must not run this rung of a demand, or has its share of the demand already."""
        return (rung, machine) in demand.barred or (demand.spread and self._of_demand[demand.name, machine] > 0)

    def spot(self, demand: Demand, option: Option) -> Spot | None:
        """The best spot for one more replica on any machine of the option's kind; None if there is none.

        Of machines that have the weights the first by name: what was begun there is not begun elsewhere.
        """
        at = sorted(machine for rung, machine in demand.drawn if rung == option.rung and self.knows(machine))
        for machine in at:
            if self.kind(machine) == option.kind and not self.refuses(demand, option.rung, machine):
                spot = self.on(machine, option.shape)
                if spot is not None:
                    return spot
        return next(self.spots(demand, option), None)

    def spots(self, demand: Demand, option: Option) -> Iterator[Spot]:
        """All spots of one device, the fullest first; of several devices, machine by machine."""
        shape, kind = option.shape, option.kind
        if shape.devices == 0:
            rows = self._by_host[kind]
            for _, name in rows[bisect_left(rows, (shape.host_bytes, "")) :]:
                if not self.refuses(demand, option.rung, name):
                    yield Spot(name, ())
        elif shape.devices == 1:
            devices = self._by_device[kind]
            for _, name, at in devices[bisect_left(devices, (shape.device_bytes, "", 0)) :]:
                if self._host[name] >= shape.host_bytes and not self.refuses(demand, option.rung, name):
                    yield Spot(name, (at,))
        else:
            open_to_it = [name for name in self.kinds[kind] if not self.refuses(demand, option.rung, name)]
            fitting = [(left, name) for name in open_to_it if (left := self._left(name, shape)) is not None]
            for _, name in sorted(fitting):
                yield Spot(name, self._emptiest_that_fit(name, shape))

    def on(self, machine: str, shape: Shape) -> Spot | None:
        """Room on this very machine."""
        if self._host[machine] < shape.host_bytes:
            return None
        devices = self._emptiest_that_fit(machine, shape)
        return Spot(machine, devices) if len(devices) == shape.devices else None

    def at(self, machine: str, devices: tuple[int, ...], shape: Shape) -> Spot | None:
        """Room on these very devices."""
        free = self._devices[machine]
        fits = (
            len(devices) == shape.devices
            and self._host[machine] >= shape.host_bytes
            and all(at < len(free) and free[at] >= shape.device_bytes for at in devices)
        )
        return Spot(machine, devices) if fits else None

    def _left(self, machine: str, shape: Shape) -> int | None:
        """Bytes of devices that would be free on it afterwards; None if it does not fit."""
        if self._host[machine] < shape.host_bytes:
            return None
        free = self._devices[machine]
        if sum(size >= shape.device_bytes for size in free) < shape.devices:
            return None
        return sum(free) - shape.devices * shape.device_bytes

    def _emptiest_that_fit(self, machine: str, shape: Shape) -> tuple[int, ...]:
        """The fullest devices that have room."""
        free = self._devices[machine]
        able = sorted((size, at) for at, size in enumerate(free) if size >= shape.device_bytes)
        return tuple(sorted(at for _, at in able[: shape.devices]))

    def put(self, demand: str, option: Option, spot: Spot) -> Placed:
        self._change(spot.machine, spot.devices, option.shape, -1)
        self._of_demand[demand, spot.machine] += 1
        return Placed(demand=demand, option=option, machine=spot.machine, devices=spot.devices)

    def put_back(self, placed: Placed) -> None:
        """What was taken, in its very place."""
        self.put(placed.demand, placed.option, Spot(placed.machine, placed.devices))

    def take(self, placed: Placed) -> None:
        """Remove a replica again."""
        self._change(placed.machine, placed.devices, placed.option.shape, 1)
        self._of_demand[placed.demand, placed.machine] -= 1

    def _change(self, machine: str, devices: tuple[int, ...], shape: Shape, sign: int) -> None:
        kind = self._machines[machine].kind
        if shape.host_bytes:
            rows = self._by_host[kind]
            before = self._host[machine]
            del rows[bisect_left(rows, (before, machine))]
            self._host[machine] = after = before + sign * shape.host_bytes
            insort(rows, (after, machine))
        free = self._devices[machine]
        sorted_devices = self._by_device[kind]
        for at in devices:
            del sorted_devices[bisect_left(sorted_devices, (free[at], machine, at))]
            free[at] += sign * shape.device_bytes
            insort(sorted_devices, (free[at], machine, at))
