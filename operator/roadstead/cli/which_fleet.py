"""Which fleet a command is about: one on this machine, or one in the cluster of the kubeconfig.

In this order: a cluster that the options name; what ``ROADSTEAD_API`` names; the fleet of ``ROADSTEAD_HOME`` (or
``.roadstead`` here), if one was ever started; the cluster of the current context.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from roadstead.api import answers
from roadstead.cli.failures import CommandError
from roadstead.cli.kube import KubeApi
from roadstead.cli.options import Chosen
from roadstead.cli.read_api import Direct, Proxied, ReadApi
from roadstead.embedded.home import Home


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOfModels:
    """A fleet's read API, and the namespace in which a bare NAME is looked for first."""

    api: ReadApi
    namespace: str
    home: Home | None
    """Of a fleet on this machine."""

    def find(self, model: str) -> tuple[str, str]:
        """Namespace and name: ``NAMESPACE/NAME`` as it is; ``NAME`` here, or where it is the only one.

        A name that no model has is one of this namespace: the API then says whether anything is known of it.
        """
        namespace, _, name = model.rpartition("/")
        if namespace:
            return namespace, name
        rows = self.api.ask("/v1/models", answers.ModelList).items
        found = sorted(row.namespace for row in rows if row.name == name)
        if self.namespace in found or not found:
            return self.namespace, name
        if len(found) > 1:
            raise CommandError(
                "ModelAmbiguous",
                f"{len(found)} models are called {name}.",
                remedy=f"Say which: {', '.join(f'{each}/{name}' for each in found)}.",
            )
        return found[0], name


def model_in(told: answers.PlanAnswer, namespace: str, name: str) -> answers.ModelDetail:
    """The model's part of a plan; ``CommandError`` ``ModelNotFound``."""
    found = next((each for each in told.models if (each.namespace, each.name) == (namespace, name)), None)
    if found is None:
        raise CommandError(
            "ModelNotFound",
            f"There is no LocalModel {namespace}/{name}.",
            remedy="`roadstead models` lists those there are.",
        )
    return found


def fleet_of_models(chosen: Chosen) -> FleetOfModels:
    """The fleet to ask; ``CommandError`` if none can be found."""
    local = None if chosen.of_cluster else _on_this_machine()
    if local is not None:
        way, home = local
        return FleetOfModels(api=ReadApi(way), namespace="default", home=home)
    kube = KubeApi.of_context(chosen.context)
    token_file = os.environ.get("ROADSTEAD_API_TOKEN_FILE")
    proxied = Proxied(
        kube,
        namespace=chosen.product_namespace,
        release=chosen.helm_release,
        token_file=Path(token_file) if token_file and not os.environ.get("ROADSTEAD_API") else None,
    )
    return FleetOfModels(api=ReadApi(proxied), namespace=kube.namespace, home=None)


def _on_this_machine() -> tuple[Direct, Home | None] | None:
    home = Home.from_environment()
    known = home if home.ports_file.exists() else None
    if url := os.environ.get("ROADSTEAD_API"):
        token_file = os.environ.get("ROADSTEAD_API_TOKEN_FILE")
        return Direct(url, Path(token_file) if token_file else None), known
    try:
        port = json.loads(home.ports_file.read_text())["operator-api"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Direct(f"http://127.0.0.1:{port}", home.api_token_file), home
