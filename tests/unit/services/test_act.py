"""A turn has an end, however much there is to do and whoever hangs."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from roadstead.domain.plan import Action, FetchWeights, SetFinalizer
from roadstead.domain.release import Artifact
from roadstead.services import act, side_by_side
from roadstead.services.act import carry_out
from roadstead.services.observe import Ports
from roadstead.services.resolutions import ResolutionBook
from tests.contract.postgres.ledger_values import a_content, a_model

MANY = 200


class Agents:
    """Fetches at once, but for nodes that hang."""

    def __init__(self, *, hanging: int = 0) -> None:
        self.fetched: list[str] = []
        self._hanging = hanging

    async def fetch(self, node: str, *, artifact: Artifact, source: str) -> None:
        del artifact, source
        if int(node) < self._hanging:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        self.fetched.append(node)


class Cluster:
    """Counts what is written to models."""

    def __init__(self) -> None:
        self.finalizers = 0

    async def set_finalizer(self, model: object) -> None:
        del model
        self.finalizers += 1


def _ports(agents: Agents, cluster: Cluster | None = None) -> Ports:
    return cast("Ports", SimpleNamespace(agents=agents, cluster=cluster or Cluster()))


def _fetches() -> tuple[Action, ...]:
    artifact = a_content().artifact
    return tuple(FetchWeights(node=str(node), artifact=artifact, source="file:///a") for node in range(MANY))


async def test_all_is_done_where_there_is_time_for_it() -> None:
    agents = Agents()
    outcome = await carry_out(_fetches(), ports=_ports(agents), resolutions=ResolutionBook())
    assert (outcome.done, outcome.left) == (MANY, 0)
    assert len(agents.fetched) == MANY


async def test_what_there_is_no_time_for_is_left_and_the_next_kind_has_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(side_by_side, "_SECONDS", -1.0)
    agents, cluster = Agents(), Cluster()
    actions = (*_fetches(), SetFinalizer(model=a_model()))
    outcome = await carry_out(actions, ports=_ports(agents, cluster), resolutions=ResolutionBook())
    assert (outcome.done, outcome.left) == (17, MANY - 16)
    assert cluster.finalizers == 1


async def test_doors_that_hang_do_not_keep_the_others_waiting_turn_after_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_SECONDS", -1.0)
    monkeypatch.setattr(act, "_TIMEOUT_SECONDS", 0.001)
    agents = Agents(hanging=16)
    left = set(range(MANY))
    for _ in range(400):
        actions = tuple(action for action in _fetches() if int(cast("FetchWeights", action).node) in left)
        await carry_out(actions, ports=_ports(agents), resolutions=ResolutionBook())
        left -= {int(node) for node in agents.fetched}
        if len(left) == 16:
            return
    raise AssertionError(f"never begun: {sorted(left)}")
