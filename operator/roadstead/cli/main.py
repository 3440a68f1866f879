"""`roadstead`: a fleet on this machine, for a person at a shell.

Everything about models is done with kubectl; these commands are about the processes below. What fails is said in three
parts: a code, a sentence, what to do next. The words of `--help` are the docstrings of the commands.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from roadstead.embedded.failures import EmbeddedFleetError
from roadstead.embedded.home import Home

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def roadstead() -> None:
    """Serve local language models with a whole fleet on this machine.

    These commands are about the fleet and its processes.
    Models are applied, looked at and deleted with kubectl: `. .roadstead/env` puts the right one on your PATH.

    ROADSTEAD_HOME says where the fleet keeps its state; without it, that is .roadstead in the current folder.
    """


@app.command()
def up(
    only: Annotated[list[str] | None, typer.Option(hidden=True, help="A process, with all it depends on.")] = None,
    example: Annotated[bool, typer.Option(help="Serve SmolLM2, a small model, and ask it something.")] = True,  # noqa: FBT002
) -> None:
    """Start the fleet, or what is missing of it, and let a real model answer.

    The first time this compiles a Kubernetes API server, which takes some minutes.
    The fleet goes on running in the background; `roadstead down` ends it.
    """
    from roadstead.embedded.progress import Progress  # noqa: PLC0415 - `--help` must not load the world
    from roadstead.embedded.up import bring_up  # noqa: PLC0415

    home = Home.from_environment()
    progress = Progress()
    try:
        answer = bring_up(home, progress, only=tuple(only or ()), example=example)
    except EmbeddedFleetError as error:
        progress.finish()
        _fail(error)
    except KeyboardInterrupt:
        progress.finish()
        typer.echo(
            "Interrupted. What was started keeps running: `roadstead up` goes on, `roadstead down` ends it.", err=True
        )
        raise typer.Exit(130) from None
    if answer is not None:
        from roadstead.embedded.first_answer import QUESTION  # noqa: PLC0415

        typer.echo(f"\n  You:     {QUESTION}\n  SmolLM2: {answer.text}\n")
        typer.echo(f"  ({answer.seconds:.1f} s; {answer.served_by})\n")
    typer.echo(_next_steps(home))


@app.command()
def down() -> None:
    """End every process of the fleet; its data and models stay."""
    from roadstead.embedded.progress import Progress  # noqa: PLC0415
    from roadstead.embedded.up import take_down  # noqa: PLC0415

    take_down(Home.from_environment(), Progress())


@app.command()
def status() -> None:
    """Show each process of the fleet: its state, since when, restarts, what is wrong.

    The exit status is 1 unless all are ready.
    """
    from roadstead.cli.status_table import print_status  # noqa: PLC0415

    raise typer.Exit(0 if print_status(Home.from_environment()) else 1)


@app.command()
def logs(
    name: Annotated[
        str | None, typer.Argument(help="A process, a model, or NAMESPACE/MODEL; without it, all processes.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on and show new lines as they come.")] = False,  # noqa: FBT002
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines of each log.")] = 20,
) -> None:
    """Show the logs of the fleet's processes, or of one model's replicas and engines."""
    from roadstead.cli.log_lines import follow_logs, log_files, print_tails  # noqa: PLC0415

    home = Home.from_environment()
    files = log_files(home, name)
    if not files:
        known = ", ".join(sorted(path.stem for path in home.logs.glob("*.log"))) or "nothing yet"
        _fail(
            EmbeddedFleetError(
                "NoSuchLog",
                f"Nothing named {name or 'anything'} has a log here.",
                remedy=f"Processes with a log: {known}. Models: `kubectl get lm -A`.",
            )
        )
    print_tails(files, lines=lines, stream=sys.stdout)
    if follow:
        try:
            follow_logs(home, name, stream=sys.stdout)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def _next_steps(home: Home) -> str:
    chat = '{"model": "smollm2", "messages": [{"role": "user", "content": "Name three harbours."}]}'
    return "\n".join(
        (
            "Try next:",
            f"  . {_short(home)}/env",
            "  kubectl get lm -o wide",
            "  kubectl scale lm/smollm2 --replicas=2",
            '  curl $ROADSTEAD_URL/v1/chat/completions -H "Authorization: Bearer $ROADSTEAD_API_KEY" \\',
            f"    -H 'Content-Type: application/json' -d '{chat}'",
            "  roadstead status, roadstead logs, roadstead down",
        )
    )


def _short(home: Home) -> str:
    from pathlib import Path  # noqa: PLC0415

    return f"{home.root.relative_to(Path.cwd())}" if home.root.is_relative_to(Path.cwd()) else str(home.root)


def _fail(error: EmbeddedFleetError) -> NoReturn:
    if error.log_tail:
        typer.echo("\n".join(f"  | {line}" for line in error.log_tail.splitlines()), err=True)
    typer.echo(f"{error.code}: {error.sentence}\n{error.remedy}", err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
