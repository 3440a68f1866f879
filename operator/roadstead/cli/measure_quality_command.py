"""`roadstead measure-quality`: how much each variant of a LocalModel differs from its best one, as a record on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from roadstead.cli.failures import EXIT_INTERRUPTED, CommandError, end_with
from roadstead.cli.options import ContextOption


def measure_quality(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME in the current namespace, or NAMESPACE/NAME.")],
    *,
    variant: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Measure this one only; more than once. Else all.")
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(metavar="VARIANT=PATH", help="Where a variant's file is on this machine; more than once."),
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The text that is read: else one that comes along.")
    ] = None,
    chunks: Annotated[int, typer.Option(min=1, max=10_000, help="Read so many times 512 tokens of it.")] = 24,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads: else one for each core that this process may use.")
    ] = None,
    llama_perplexity: Annotated[
        Path | None, typer.Option(metavar="PATH", help="llama.cpp's program: else that on PATH, or that built here.")
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where a large file may be in between: else TMPDIR, or /tmp.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.01, metavar="MINUTES", help="End llama-perplexity if it is silent for so long.")
    ] = 30.0,
    json: Annotated[bool, typer.Option("--json", help="Print what was measured, for scripts.")] = False,
    kube_context: ContextOption = None,
) -> None:
    """Measure how much variants differ from the best one, and store that on the LocalModel.

    llama.cpp's llama-perplexity reads a text with the largest GGUF and then with each other one.
    The files must be on this machine, and be the very ones that are served.
    Each figure is stored as soon as it is known; the operator then goes by it.
    """
    from roadstead.cli.kube import KubeApi  # noqa: PLC0415 - `--help` must not load the world
    from roadstead.cli.measuring.measure import Asked, measure  # noqa: PLC0415
    from roadstead.cli.measuring.report import as_json, print_outcome  # noqa: PLC0415
    from roadstead.embedded.progress import Progress  # noqa: PLC0415

    progress = Progress()
    in_namespace, _, name = model.rpartition("/")
    named_files = dict(_named_file(each) for each in file or ())
    try:
        kube = KubeApi.of_context(kube_context)
        asked = Asked(
            namespace=in_namespace or kube.namespace,
            name=name,
            variants=tuple(variant or ()),
            named_files=named_files,
            program=llama_perplexity,
            corpus=corpus,
            chunks=chunks,
            threads=threads or _cores(),
            scratch=scratch,
            silence_seconds=60 * timeout,
        )
        outcome = measure(kube, asked, progress)
    except CommandError as error:
        progress.finish()
        end_with(error)
    except KeyboardInterrupt:
        progress.finish()
        typer.echo("Interrupted. What was measured before is stored; nothing else is left.", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    progress.finish()
    if json:
        typer.echo(as_json(outcome))
    else:
        print_outcome(outcome)


def _named_file(text: str) -> tuple[str, Path]:
    variant, equals, path = text.partition("=")
    if not (variant and equals and path):
        raise typer.BadParameter(f"{text!r} is not VARIANT=PATH", param_hint="--file")
    return variant, Path(path).expanduser()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on a Mac
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
