"""``python -m roadstead_migrations``: what init containers, `make up` and people call.

Exit status: 0 done, 1 could not be done (the sentence says why), 2 called wrongly.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from roadstead.adapters.postgres.address import (
    DATABASE_URL_FILE_VARIABLE,
    DATABASE_URL_VARIABLE,
    AddressProblem,
    database_address,
)
from roadstead_migrations import runner


def main(arguments: list[str] | None = None) -> int:
    """Carry out one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        file = os.environ.get(DATABASE_URL_FILE_VARIABLE)
        url = database_address(url=os.environ.get(DATABASE_URL_VARIABLE, ""), file=Path(file) if file else None)()
        match options.command:
            case "upgrade":
                said = runner.upgrade(url)
            case "downgrade":
                said = runner.downgrade(url, options.revision, discard_history=options.discard_history)
            case "current":
                said = runner.current(url)
            case _:
                said = runner.check(url)
    except (AddressProblem, runner.MigrationProblem) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    sys.stdout.write(f"{said}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m roadstead_migrations",
        description=f"The ledger's schema, in the database of {DATABASE_URL_VARIABLE} (or of the file"
        f" that {DATABASE_URL_FILE_VARIABLE} names).",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("upgrade", help="to the newest revision this program knows")
    down = commands.add_parser("downgrade", help="back to a revision")
    down.add_argument("revision", help="a revision such as 0001, or base for nothing at all")
    down.add_argument("--discard-history", action="store_true", help="drop what the ledger remembers, for good")
    commands.add_parser("current", help="which revision is in force")
    commands.add_parser("check", help="whether the database equals the typed models")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
