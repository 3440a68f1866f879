"""`roadstead orphan`: free a LocalModel whose operator is gone, and list what it leaves."""

from __future__ import annotations

from typing import Annotated

import typer

from roadstead.cli.failures import CommandError, end_with
from roadstead.cli.options import Chosen, ContextOption, InOption, ReleaseOption


def orphan(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME in the current namespace, or NAMESPACE/NAME.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Even while an operator lives.")] = False,
    namespace: InOption = None,
    release: ReleaseOption = None,
    kube_context: ContextOption = None,
) -> None:
    """Free a LocalModel whose operator is gone, and list what it leaves behind.

    Takes Roadstead's finalizer off, so that the object can be deleted.
    Removes nothing else, and needs nothing but your kubeconfig.

    Refused with exit status 3 while an operator leads: that one cleans up itself.
    """
    from roadstead.cli.kube import KubeApi  # noqa: PLC0415 - `--help` must not load the world
    from roadstead.cli.orphan import free  # noqa: PLC0415
    from roadstead.cli.orphan_report import print_freed  # noqa: PLC0415

    chosen = Chosen(namespace=namespace, release=release, context=kube_context)
    in_namespace, _, name = model.rpartition("/")
    try:
        kube = KubeApi.of_context(chosen.context)
        freed = free(
            kube,
            namespace=in_namespace or kube.namespace,
            name=name,
            product_namespace=chosen.product_namespace,
            release=chosen.helm_release,
            force=force,
        )
    except CommandError as error:
        end_with(error)
    print_freed(freed)
