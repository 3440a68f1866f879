"""What all tables of the CLI have in common: no lines, words in the colour of what they mean, sizes for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from roadstead.api import answers
from roadstead.domain.quantity import in_words

_GOOD = frozenset({"Ready", "True", "Chosen", "Serving", "Known", "Fits"})
_BAD = frozenset({"Unknown", "EngineStartFailed", "InvalidSpec", "InsufficientRAM", "InsufficientDisk"})


def new_table(*headings: str) -> Table:
    """Columns that fold what is too long."""
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def add_row(table: Table, *cells: str | Text) -> None:
    """What others wrote is text, not markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def coloured(word: str) -> Text:
    """A status or a reason code."""
    return Text(word, style=colour(word))


def colour(word: str) -> str:
    return "green" if word in _GOOD else "red" if word in _BAD else "yellow"


def part_of(part: int | None, whole: int | None) -> str:
    return "?" if part is None or whole is None else f"{in_words(part)} of {in_words(whole)}"


def size_words(number_of_bytes: int | None) -> str:
    return "?" if number_of_bytes is None else in_words(number_of_bytes)


def or_unknown(value: int | None) -> str:
    return "?" if value is None else str(value)


def print_origin(told: answers.Origin, console: Console) -> None:
    """Whose view it is, and how old."""
    who = "the leader" if told.leading else "a standby, which only tells what it would do"
    console.print(Text(f"Planned {told.age_seconds:.0f} s ago by {who}.", style="dim"))
