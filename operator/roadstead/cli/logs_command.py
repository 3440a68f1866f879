"""`roadstead logs`: a process of the fleet on this machine, or the engines of a model wherever they run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from roadstead.cli.failures import EXIT_INTERRUPTED, CommandError, end_with
from roadstead.cli.options import Chosen, ContextOption, InOption, ReleaseOption
from roadstead.embedded.home import Home

if TYPE_CHECKING:
    from roadstead.cli.which_fleet import FleetOfModels

_LINES_LIMIT = 10_000
_UNREACHABLE = frozenset({"ReadApiUnreachable", "TokenUnusable"})


def logs(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A model, or NAMESPACE/MODEL; on one machine also a process of the fleet. Without it: all processes.",
        ),
    ] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on and show new lines as they come.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=_LINES_LIMIT, help="How many of the last lines of each log.")
    ] = 20,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Also engines that are gone: their logs stay for a week.")
    ] = False,
    namespace: InOption = None,
    release: ReleaseOption = None,
    kube_context: ContextOption = None,
) -> None:
    """Show what a model's engines say, wherever they run.

    Each line has its node and replica before it.
    A line that begins with # is about the reading itself.
    """
    chosen = Chosen(namespace=namespace, release=release, context=kube_context)
    try:
        if not chosen.of_cluster and (name is None or Home.from_environment().log(name).exists()):
            _files(Home.from_environment(), name, lines=lines, follow=follow)
        elif name is None:
            raise CommandError(
                "NameMissing",
                "In a cluster, logs are those of a model.",
                remedy="Name one: `roadstead models` lists them. Processes are Pods: `kubectl logs`.",
            )
        else:
            _engines(chosen, name, lines=lines, follow=follow, previous=previous)
    except CommandError as error:
        end_with(error)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _engines(chosen: Chosen, model: str, *, lines: int, follow: bool, previous: bool) -> None:
    from roadstead.cli.which_fleet import fleet_of_models  # noqa: PLC0415 - `--help` must not load the world

    fleet = fleet_of_models(chosen)
    try:
        write_through(engine_lines(fleet, model, lines=lines, follow=follow, previous=previous), sys.stdout.buffer)
    except CommandError as error:
        if fleet.home is None or error.code not in _UNREACHABLE:
            raise
        # The fleet is down: its files still say why.
        typer.echo(f"{error.sentence} What its files hold:", err=True)
        _files(fleet.home, model, lines=lines, follow=follow)


def engine_lines(fleet: FleetOfModels, model: str, *, lines: int, follow: bool, previous: bool) -> Iterable[bytes]:
    """Blocks of lines of a model's engines."""
    from roadstead.cli.read_api import model_path  # noqa: PLC0415

    query = {"lines": str(lines), "follow": str(follow).lower(), "previous": str(previous).lower()}
    return fleet.api.lines(f"{model_path(*fleet.find(model))}/logs", query=query, endless=follow)


def write_through(blocks: Iterable[bytes], stream: BinaryIO) -> None:
    """Write each block as it comes, until they end or nobody reads any more."""
    try:
        for block in blocks:
            stream.write(block)
            stream.flush()
    except BrokenPipeError:
        sys.stderr.close()  # `| head` has seen enough; Python would complain at its end


def _files(home: Home, name: str | None, *, lines: int, follow: bool) -> None:
    from roadstead.cli.log_lines import follow_logs, log_files, print_tails  # noqa: PLC0415 - `--help` stays quick

    files = log_files(home, name)
    if not files:
        known = ", ".join(sorted(path.stem for path in home.logs.glob("*.log"))) or "nothing yet"
        raise CommandError(
            "NoSuchLog",
            f"Nothing named {name or 'anything'} has a log here.",
            remedy=f"Processes with a log: {known}. Models: `kubectl get lm -A`.",
        )
    print_tails(files, lines=lines, stream=sys.stdout)
    if follow:
        follow_logs(home, name, stream=sys.stdout)
