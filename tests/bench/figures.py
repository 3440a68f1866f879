"""What a bench finds, and how it is shown: progress while it runs, one table at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table; ``aim`` is empty where none was set."""

    name: str
    value: str
    aim: str
    behind: str = ""
    """What the ratio was made of."""

    def __str__(self) -> str:
        aim = f"aim {self.aim}" if self.aim else ""
        return f"{self.name:<62}{self.value:>16}   {aim:<16}{self.behind}".rstrip()


def say(line: str) -> None:
    """Progress, at once even into a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def show(figures: Iterable[Figure]) -> None:
    """The table."""
    say("")
    for figure in figures:
        say(str(figure))
