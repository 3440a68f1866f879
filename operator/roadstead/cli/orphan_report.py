"""What `roadstead orphan` says that it did."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from roadstead.cli.orphan import Freed


def print_freed(freed: Freed, console: Console | None = None) -> None:
    """What was removed, what happens now, and what is left."""
    console = console or Console()
    console.print(Text(" ".join(_sentences(freed))))
    console.print("\nWhat it leaves:", highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    for left in freed.left:
        table.add_row(Text(f"  {left.kind}", style="bold"), Text(left.name), Text(left.words))
    console.print(table)


def _sentences(freed: Freed) -> tuple[str, ...]:
    key = f"{freed.namespace}/{freed.name}"
    if not freed.removed:
        what = f"{key} has no finalizer of Roadstead: nothing was changed."
    else:
        what = f"{key} is free: {' and '.join(freed.removed)} was removed."
    if freed.others:
        now = f"It is still held by {', '.join(freed.others)}."
    elif freed.deleting:
        now = "Its deletion was asked for before, so it is gone now."
    else:
        now = f"It stays until it is deleted: kubectl delete localmodel -n {freed.namespace} {freed.name}"
    return what, now
