"""The commands that show what the operator sees and would do: `models`, `nodes`, `plan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from roadstead.cli.failures import CommandError, end_with
from roadstead.cli.options import Chosen, ContextOption, InOption, ReleaseOption

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

Told = TypeVar("Told", bound="BaseModel")

# `--help` must not load the world: what a command needs is imported inside.

JsonOption = Annotated[bool, typer.Option("--json", help="Print what the read API answers, for scripts.")]


def models(
    *,
    namespace: InOption = None,
    release: ReleaseOption = None,
    kube_context: ContextOption = None,
    json: JsonOption = False,
) -> None:
    """Show every model: how it stands, and on which nodes it answers."""
    from roadstead.api.answers import ModelList  # noqa: PLC0415
    from roadstead.cli.fleet_tables import print_models  # noqa: PLC0415

    chosen = Chosen(namespace=namespace, release=release, context=kube_context)
    _show("/v1/models", ModelList, print_models, chosen=chosen, json=json)


def nodes(
    *,
    namespace: InOption = None,
    release: ReleaseOption = None,
    kube_context: ContextOption = None,
    json: JsonOption = False,
) -> None:
    """Show every node: what it has free, what runs there, what is wrong with it."""
    from roadstead.api.answers import NodeList  # noqa: PLC0415
    from roadstead.cli.fleet_tables import print_nodes  # noqa: PLC0415

    chosen = Chosen(namespace=namespace, release=release, context=kube_context)
    _show("/v1/nodes", NodeList, print_nodes, chosen=chosen, json=json)


def plan(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="NAME or NAMESPACE/NAME; without it, all and what is next.")
    ] = None,
    *,
    namespace: InOption = None,
    release: ReleaseOption = None,
    kube_context: ContextOption = None,
    json: JsonOption = False,
) -> None:
    """Show why each node runs what it runs, what was refused and why, and what is done next.

    A standby operator may answer: it shows what it would do, which is what the leader does.
    """
    from rich.console import Console  # noqa: PLC0415

    from roadstead.api.answers import PlanAnswer  # noqa: PLC0415
    from roadstead.cli.fleet_tables import print_plan  # noqa: PLC0415
    from roadstead.cli.which_fleet import fleet_of_models, model_in  # noqa: PLC0415

    chosen = Chosen(namespace=namespace, release=release, context=kube_context)
    try:
        fleet = fleet_of_models(chosen)
        told = fleet.api.ask("/v1/plan", PlanAnswer)
        if model is not None:
            told = told.model_copy(update={"models": (model_in(told, *fleet.find(model)),)})
    except CommandError as error:
        end_with(error)
    if not printed_as_json(told, wanted=json):
        print_plan(told, Console(), actions=model is None)


def _show(path: str, shape: type[Told], table: Callable[[Told, Console], None], *, chosen: Chosen, json: bool) -> None:
    """One answer of the read API, as it is or as a table."""
    from rich.console import Console  # noqa: PLC0415

    from roadstead.cli.which_fleet import fleet_of_models  # noqa: PLC0415

    try:
        told = fleet_of_models(chosen).api.ask(path, shape)
    except CommandError as error:
        end_with(error)
    if not printed_as_json(told, wanted=json):
        table(told, Console())


def printed_as_json(told: BaseModel, *, wanted: bool) -> bool:
    """Whether it was."""
    if wanted:
        typer.echo(told.model_dump_json(by_alias=True, indent=2))
    return wanted
