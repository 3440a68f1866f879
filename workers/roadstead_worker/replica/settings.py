"""What a replica takes from the environment of its raylet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

STORE_VARIABLE: Final = "ROADSTEAD_STORE"
SECRET_VARIABLE: Final = "ROADSTEAD_REPLICA_TOKEN_FILE"  # noqa: S105 - the name of a variable
NODE_VARIABLE: Final = "ROADSTEAD_NODE"
UNCONFINED_VARIABLE: Final = "ROADSTEAD_ENGINE_UNCONFINED"


class SettingMissing(Exception):
    """The raylet was started without a variable that replicas need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSettings:
    """Where things are on this node."""

    store: Path
    """The node's weight store; holds ``agent.sock``, ``leases/``, ``logs/``, ``scratch/``."""
    secret: Path
    """File with the secret that callers of a replica must show."""
    node: str
    """Kubernetes name of the node."""
    confined: bool = True
    """``ROADSTEAD_ENGINE_UNCONFINED=1`` turns Landlock off, for an engine that reads files we do not know of."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Raises ``SettingMissing``, which names every variable that is missing."""
        given = os.environ if environment is None else environment
        needed = (STORE_VARIABLE, SECRET_VARIABLE, NODE_VARIABLE)
        missing = [name for name in needed if not given.get(name)]
        if missing:
            raise SettingMissing(f"the raylet of a worker needs {', '.join(missing)} in its environment")
        return cls(
            store=Path(given[STORE_VARIABLE]),
            secret=Path(given[SECRET_VARIABLE]),
            node=given[NODE_VARIABLE],
            confined=given.get(UNCONFINED_VARIABLE, "") != "1",
        )
