"""What is to be assigned, in the solver's own terms: bytes, machines, options and what each is worth.

Machines that are alike to every demand have the same ``kind``: hardware, pool, labels that anybody selects by, taints.
Options are per kind, so their number follows the kinds, not the machines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A node with what is free for models: everything that is not others' use."""

    name: str
    kind: str
    devices: tuple[int, ...] = ()
    """Bytes of each accelerator."""
    host_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What one replica takes of a machine."""

    devices: int = 0
    device_bytes: int = 0
    """On each of its devices."""
    host_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to run a replica: a rung of the ladder on a kind of machine."""

    rung: str
    kind: str
    shape: Shape
    utility: float
    """What a replica that runs so is worth; above 0."""


@dataclass(frozen=True, slots=True, order=True)
class Standing:
    """A replica that runs already."""

    machine: str
    rung: str
    devices: tuple[int, ...] = ()
    """Which of the machine's devices it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The replicas of one model."""

    name: str
    replicas: int
    band: int = 0
    """Priority: a higher band is served first, whatever that costs a lower one."""
    options: tuple[Option, ...]
    spread: bool = False
    """At most one replica on a machine."""
    barred: frozenset[tuple[str, str]] = frozenset()
    """Rung and machine that do not go together."""
    drawn: frozenset[tuple[str, str]] = frozenset()
    """Rung and machine where its weights are already: of equals these come first."""
    standing: tuple[Standing, ...] = ()

    def lacking(self, replicas: int) -> Demand:
        """The same for so many replicas, none of which runs."""
        return replace(self, replicas=replicas, standing=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A fleet and what is asked of it. Its order does not matter to a solution."""

    machines: tuple[Machine, ...]
    demands: tuple[Demand, ...]
    stay_bonus: float = 0.0
    """What a replica that runs already must gain to be moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One replica on a machine."""

    demand: str
    option: Option
    machine: str
    devices: tuple[int, ...] = ()
    """Which of the machine's devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A solution."""

    placed: tuple[Placed, ...]
    utility: float
    bound: float
    """No assignment is worth more."""

    @property
    def gap(self) -> float:
        """Share of the bound that was not reached."""
        return 1 - self.utility / self.bound if self.bound > 0 else 0.0
