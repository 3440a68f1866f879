"""How the contract tests are shared out to processes (``-n 3``): by file, and all that use the cell of Ray to one.

What takes longest comes first: the cell of Ray, of which a machine holds one, then the API server's. Before them comes
only a replica that is measured with all children of its process: the cell must not be among them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

_RAY = Path(__file__).parent / "ray"
_KUBE = Path(__file__).parent / "kube"
_MEASURED = Path(__file__).parent / "agent" / "test_a_replica_and_its_agent.py"


class Shares(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """What is in one share stays together."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.split("::", 1)[0])
        return str(file.parent if file.parent.name == _RAY.name else file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Shares:
    return Shares(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (item.path != _MEASURED, _RAY not in item.path.parents, _KUBE not in item.path.parents))
