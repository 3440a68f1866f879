"""What people ask before and after they apply something: `explain`, `fit`, `what-if`. Nothing is done for an answer."""

from __future__ import annotations

from typing import Annotated

import typer

from roadstead.cli.failures import CommandError, end_with
from roadstead.cli.fleet_commands import JsonOption, printed_as_json
from roadstead.cli.kube import Object
from roadstead.cli.options import Chosen, ContextOption, InOption, ReleaseOption
from roadstead.domain.model import CacheType

# `--help` must not load the world: what a command needs is imported inside.


def explain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME or NAMESPACE/NAME.")],
    *,
    namespace: InOption = None,
    release: ReleaseOption = None,
    kube_context: ContextOption = None,
    json: JsonOption = False,
) -> None:
    """Show every variant on every kind of node: whether it fits, and what was passed over.

    With the figures by which that is decided: memory, speed, quality, what a replica is worth.
    """
    from rich.console import Console  # noqa: PLC0415

    from roadstead.api.answers import ExplainAnswer  # noqa: PLC0415
    from roadstead.cli.explain_tables import print_explanation  # noqa: PLC0415
    from roadstead.cli.read_api import model_path  # noqa: PLC0415
    from roadstead.cli.which_fleet import fleet_of_models  # noqa: PLC0415

    chosen = Chosen(namespace=namespace, release=release, context=kube_context)
    try:
        fleet = fleet_of_models(chosen)
        told = fleet.api.ask(f"{model_path(*fleet.find(model))}/explain", ExplainAnswer)
    except CommandError as error:
        end_with(error)
    if not printed_as_json(told, wanted=json):
        print_explanation(told, Console())


def fit(
    asked: Annotated[
        str,
        typer.Argument(
            metavar="FILE|SOURCE", help="A LocalModel (YAML or JSON), a GGUF file of this machine, or a source."
        ),
    ],
    *,
    context: Annotated[
        int | None, typer.Option(metavar="TOKENS", help="contextTokens: the length of a sequence.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(metavar="NUMBER", help="Sequences at once.")] = None,
    cache_type: Annotated[
        CacheType | None, typer.Option(case_sensitive=False, help="cacheType: what the context is kept in.")
    ] = None,
    namespace: InOption = None,
    release: ReleaseOption = None,
    kube_context: ContextOption = None,
    json: JsonOption = False,
) -> None:
    """Show where a model could run before it is applied: with what memory, and where not and why.

    Of a file on this machine only the header is read, and nothing else of it is sent.
    """
    from rich.console import Console  # noqa: PLC0415

    from roadstead.api.answers import FitAnswer  # noqa: PLC0415
    from roadstead.cli.explain_tables import print_fit  # noqa: PLC0415
    from roadstead.cli.manifests import question_of_fit  # noqa: PLC0415
    from roadstead.cli.which_fleet import fleet_of_models  # noqa: PLC0415

    given = {"contextTokens": context, "concurrency": concurrency, "cacheType": cache_type}
    requirements: Object = {name: value for name, value in given.items() if value is not None}
    chosen = Chosen(namespace=namespace, release=release, context=kube_context)
    try:
        fleet = fleet_of_models(chosen)
        question = question_of_fit(asked, namespace=fleet.namespace, requirements=requirements)
        told = fleet.api.ask("/v1/fit", FitAnswer, body=question)
    except CommandError as error:
        end_with(error)
    if not printed_as_json(told, wanted=json):
        print_fit(told, Console())


def what_if(
    *,
    drain: Annotated[
        list[str] | None, typer.Option(metavar="NODE", help="A node that would take nothing more; more than once.")
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE[:NUMBER]", help="Empty nodes just like that one, beside it; more than once."),
    ] = None,
    apply: Annotated[
        list[str] | None,
        typer.Option(
            "--apply", "-f", metavar="FILE", help="LocalModels that would be applied (- is standard input); repeatable."
        ),
    ] = None,
    namespace: InOption = None,
    release: ReleaseOption = None,
    kube_context: ContextOption = None,
    json: JsonOption = False,
) -> None:
    """Show what would move, start, stop or find no place, if nodes went or came, or models were applied.

    It is the plan that would be made then, against the one that is made now. Nothing is done.
    """
    from rich.console import Console  # noqa: PLC0415

    from roadstead.api.answers import WhatIfAnswer  # noqa: PLC0415
    from roadstead.cli.fleet_tables import print_what_if  # noqa: PLC0415
    from roadstead.cli.manifests import local_models  # noqa: PLC0415
    from roadstead.cli.which_fleet import fleet_of_models  # noqa: PLC0415

    chosen = Chosen(namespace=namespace, release=release, context=kube_context)
    try:
        if not drain and not add and not apply:
            raise CommandError(
                "NothingSupposed",
                "Neither --drain nor --add names a node, and --apply no file.",
                remedy="Try `roadstead what-if --drain NODE`; `roadstead nodes` lists the nodes.",
            )
        fleet = fleet_of_models(chosen)
        supposed: Object = {"drain": drain or [], "add": add or []}
        if not apply:  # as every operator understands it
            told = fleet.api.ask("/v1/what-if", WhatIfAnswer, query=supposed)
        else:
            models = [each for path in apply for each in local_models(path, namespace=fleet.namespace)]
            told = fleet.api.ask("/v1/what-if", WhatIfAnswer, body={**supposed, "apply": models})
    except CommandError as error:
        end_with(error)
    if not printed_as_json(told, wanted=json):
        print_what_if(told, Console())
