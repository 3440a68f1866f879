"""`roadstead explain` and `fit`: every variant on every kind of node, and what was passed over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from roadstead.api import answers
from roadstead.cli.tables import add_row, coloured, new_table, print_origin, size_words

_CHOICES: Final = 8
"""Places that are told one by one; of more `--json` tells."""


def print_explanation(told: answers.ExplainAnswer, console: Console) -> None:
    """Where the model runs, and why not elsewhere."""
    model = told.model
    placed = model.wanted - model.pending
    style = "red" if model.pending else "green"
    console.print(
        Text.assemble(
            (f"{model.namespace}/{model.name}", "bold"),
            "  ",
            (f"{placed} of {model.wanted} replicas have a place", style),
        )
    )
    _print_model(model, console)
    for choice in model.choices[:_CHOICES]:
        _print_choice(choice, console)
    if len(model.choices) > _CHOICES:
        console.print(Text(f"{len(model.choices) - _CHOICES} more places are told with --json."))
    print_origin(told, console)


def print_fit(told: answers.FitAnswer, console: Console) -> None:
    """Where it could run, and whether it would be placed now."""
    model = told.model
    places = ", ".join(f"{each.replicas} × {each.variant} on {each.node}" for each in model.choices)
    if told.placed:
        console.print(Text.assemble(("Would have a place now", "green"), f": {places or 'no replica is asked for'}"))
    else:
        console.print(Text("Would have no place now" if not places else "Would only in part have a place now", "red"))
    _print_model(model, console)
    print_origin(told, console)


def _print_model(model: answers.Explanation, console: Console) -> None:
    if model.why and not model.options:  # what keeps it from each node is in the table
        console.print(Text(f"  {model.why}"))
    _print_variants(model.variants, console)
    _print_options(model.options, console)


def _print_variants(variants: Sequence[answers.Rung], console: Console) -> None:
    if not variants:
        return
    refused = any(variant.verdict for variant in variants)
    table = new_table("  VARIANT", "SIZE", "QUALITY", *(("VERDICT", "WHY") if refused else ()))
    for variant in variants:
        cells: list[str | Text] = [f"  {variant.name}", size_words(variant.bytes or None), _quality(variant)]
        add_row(table, *cells, *((coloured(variant.verdict), variant.message) if refused else ()))
    console.print(table)
    console.print()


def _print_options(options: Sequence[answers.Option], console: Console) -> None:
    if not options:
        return
    fast = any(option.tokens_per_second is not None for option in options)
    table = new_table("  VARIANT", "ON", "VERDICT", *(("TOKENS/S",) if fast else ()), "WHY")
    for option in options:
        speed = (_speed(option),) if fast else ()
        add_row(table, f"  {option.variant}", _nodes(option), coloured(option.verdict), *speed, option.message)
    console.print(table)
    console.print()


def _print_choice(choice: answers.Choice, console: Console) -> None:
    worth = f", worth {choice.worth:g} ({_sum(choice.terms)})" if choice.terms else ""
    rather = ", rather than" if choice.passed_over else ""
    console.print(Text(f"{choice.replicas} × {choice.variant} on {choice.node}{worth}{rather}"))
    if choice.passed_over:
        table = new_table("  VARIANT", "ON", "VERDICT", "WORTH", "WHY")
        for option in choice.passed_over:
            worth = f"{option.worth:g}"
            add_row(table, f"  {option.variant}", _nodes(option), coloured(option.verdict), worth, option.message)
        console.print(table)
    console.print()


def _quality(variant: answers.Rung) -> str:
    return "?" if variant.quality is None else f"{variant.quality:g} {(variant.quality_origin or '').lower()}".rstrip()


def _nodes(option: answers.Option) -> str:
    others = option.nodes - 1
    return f"{option.example} and {others} like it" if others else option.example


def _speed(option: answers.Option) -> str:
    """Of one stream; ``≈`` where it is only expected or computed."""
    if option.tokens_per_second is None:
        return "?"
    return f"{'' if option.speed_from == 'Measured' else '≈ '}{option.tokens_per_second:g}"


def _sum(terms: Iterable[answers.Term]) -> str:
    """``served 1 + quality 0.914 - rung 0.001``; what is nothing is left out."""
    words = [f"{'-' if term.value < 0 else '+'} {term.name} {abs(term.value):g}" for term in terms if term.value]
    return " ".join(words).removeprefix("+ ")
