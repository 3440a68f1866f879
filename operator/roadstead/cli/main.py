"""`roadstead`, and `kubectl roadstead`: what a person types, put together.

Models are applied, changed and deleted with kubectl; these commands show what Roadstead makes of them, and run a fleet
on this machine. What fails is said in three parts: a code, a sentence, what to do next. The words of `--help` are the
docstrings of the commands.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from roadstead.cli import (
    asking_commands,
    fleet_commands,
    logs_command,
    measure_quality_command,
    orphan_command,
    this_machine,
)

_MODELS, _MACHINE = "Models and nodes", "A fleet on this machine"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def roadstead() -> None:
    """Serve local language models on your own machines.

    Models are applied, changed and deleted with kubectl.
    These commands show why each node runs what it runs, and what engines say.

    In the folder of a fleet on this machine, or after `. .roadstead/env`, they are
    about that fleet; else about the cluster of your kubeconfig.
    As `kubectl roadstead` it is the same program.
    """


_COMMANDS: tuple[tuple[Callable[..., None], str], ...] = (
    (fleet_commands.models, _MODELS),
    (fleet_commands.nodes, _MODELS),
    (fleet_commands.plan, _MODELS),
    (asking_commands.explain, _MODELS),
    (asking_commands.fit, _MODELS),
    (asking_commands.what_if, _MODELS),
    (logs_command.logs, _MODELS),
    (measure_quality_command.measure_quality, _MODELS),
    (orphan_command.orphan, _MODELS),
    (this_machine.up, _MACHINE),
    (this_machine.down, _MACHINE),
    (this_machine.status, _MACHINE),
)
for _command, _panel in _COMMANDS:
    app.command(rich_help_panel=_panel)(_command)


if __name__ == "__main__":
    app()
