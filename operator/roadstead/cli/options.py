"""The options that say which fleet a command is about. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Final

import typer

DEFAULT_NAMESPACE: Final = "roadstead"
DEFAULT_RELEASE: Final = "roadstead"
_CLUSTER: Final = "In a cluster"

InOption = Annotated[
    str | None,
    typer.Option(
        "--in",
        metavar="NAMESPACE",
        rich_help_panel=_CLUSTER,
        help="Namespace that Roadstead is installed in: ROADSTEAD_NAMESPACE, else roadstead.",
    ),
]
ReleaseOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", rich_help_panel=_CLUSTER, help="The Helm release: ROADSTEAD_RELEASE, else roadstead."),
]
ContextOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", rich_help_panel=_CLUSTER, help="Context of your kubeconfig: else the current one."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What the options say."""

    namespace: str | None = None
    release: str | None = None
    context: str | None = None

    @property
    def of_cluster(self) -> bool:
        """Whether they can only mean a cluster."""
        return any((self.namespace, self.release, self.context))

    @property
    def product_namespace(self) -> str:
        return self.namespace or os.environ.get("ROADSTEAD_NAMESPACE") or DEFAULT_NAMESPACE

    @property
    def helm_release(self) -> str:
        return self.release or os.environ.get("ROADSTEAD_RELEASE") or DEFAULT_RELEASE
