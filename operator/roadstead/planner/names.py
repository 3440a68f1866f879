"""Who answers to which short name.

A grant is recorded in the model's ModelRoute and stays as long as its model wants it; between new claims the older
object wins, then the smaller uid. ``namespace/name`` always routes and needs no grant.
"""

from __future__ import annotations

from collections.abc import Mapping

from roadstead.domain.model import Model, ModelKey
from roadstead.domain.snapshot import Route


def grant_names(models: tuple[Model, ...], routes: Mapping[ModelKey, Route]) -> Mapping[str, ModelKey]:
    """Every short name that somebody claims, with the one model it is granted to."""
    claims = {model.key: model.spec.names for model in models if model.spec is not None and not model.deleting}
    granted: dict[str, ModelKey] = {}
    for route in sorted(routes.values(), key=lambda route: route.name):
        for name in route.names:
            if name in claims.get(route.model, ()):
                granted.setdefault(name, route.model)
    for model in sorted(models, key=lambda model: model.precedence):
        for name in claims.get(model.key, ()):
            granted.setdefault(name, model.key)
    return granted
