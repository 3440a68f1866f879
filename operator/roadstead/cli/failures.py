"""What a command says when it cannot be done: a code, a sentence, the object, the remedy, and an exit status."""

from __future__ import annotations

from typing import Final, NoReturn

import typer

EXIT_FAILED: Final = 1
"""It could not be done."""
EXIT_REFUSED: Final = 3
"""It could be done, but should not: `--force` insists."""
EXIT_INTERRUPTED: Final = 130


class CommandError(Exception):
    """A command ends with this; nothing below the commands prints."""

    def __init__(self, code: str, sentence: str, *, remedy: str, about: str = "", status: int = EXIT_FAILED) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence
        self.remedy = remedy
        self.about = about
        self.status = status


def end_with(error: CommandError) -> NoReturn:
    """Say it on standard error and end."""
    about = f" ({error.about})" if error.about and error.about not in error.sentence else ""
    typer.echo(f"{error.code}: {error.sentence}{about}\n{error.remedy}", err=True)
    raise typer.Exit(error.status)
