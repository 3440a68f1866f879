"""The commands about a fleet on this machine: `up`, `down`, `status`."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from roadstead.cli.failures import EXIT_INTERRUPTED
from roadstead.embedded.failures import EmbeddedFleetError
from roadstead.embedded.home import Home


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
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if answer is not None:
        from roadstead.embedded.first_answer import QUESTION  # noqa: PLC0415

        typer.echo(f"\n  You:     {QUESTION}\n  SmolLM2: {answer.text}\n")
        typer.echo(f"  ({answer.seconds:.1f} s; {answer.served_by})\n")
    typer.echo(_next_steps(home))


def down() -> None:
    """End every process of the fleet; its data and models stay."""
    from roadstead.embedded.progress import Progress  # noqa: PLC0415
    from roadstead.embedded.up import take_down  # noqa: PLC0415

    take_down(Home.from_environment(), Progress())


def status() -> None:
    """Show each process of the fleet: its state, since when, restarts, what is wrong.

    The exit status is 1 unless all are ready.
    """
    from roadstead.cli.status_table import print_status  # noqa: PLC0415

    raise typer.Exit(0 if print_status(Home.from_environment()) else 1)


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
