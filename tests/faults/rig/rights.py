"""What an operator may do, as a ClusterRole that a test changes."""

from __future__ import annotations

import json
from typing import Final

from tests.fixtures.control_plane import RunningControlPlane

Rule = tuple[tuple[str, ...], tuple[str, ...]]
RIGHTS: Final[dict[str, Rule]] = {
    "": (("nodes", "pods", "namespaces"), ("*",)),
    "resource.k8s.io": (("resourceslices",), ("list", "watch")),
    "apps": (("controllerrevisions",), ("*",)),
    "coordination.k8s.io": (("leases",), ("*",)),
    "roadstead.dev": (("*",), ("*",)),
}
"""By group: resources and verbs."""


def allow(plane: RunningControlPlane, name: str, rights: dict[str, Rule]) -> None:
    rules = [{"apiGroups": [group], "resources": rule[0], "verbs": rule[1]} for group, rule in rights.items()]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}}
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(role | {"rules": rules}))
