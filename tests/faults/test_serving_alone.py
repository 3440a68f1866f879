"""What serves goes on serving while everything that steers it is away.

A whole fleet in processes: real API server, Postgres, Ray, engines, gateway. A client asks ten times a second, whatever
it waits for, as long as a part is away and until the fleet is steered again. Nothing that serves is touched, so nothing
may fail. ``ROADSTEAD_OUTAGE_SECONDS`` says how long each part is away: ``make soak`` takes ten minutes.

The client is the official one with the retries that it has by default. They are counted, and allowed only where
gateways are restarted, and few: a connection that is kept open may be closed by a gateway that ends just as the client
takes it for another request. Where they are restarted there are two behind one address, as a Service has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import pytest

from roadstead.embedded.readiness import answers
from tests.faults.rig.outage import ended, held_still
from tests.faults.rig.pair import pair
from tests.faults.rig.two_gateways import TwoGateways, two_gateways
from tests.fixtures.embedded_fleet import EmbeddedFleet
from tests.fixtures.figures import Say
from tests.fixtures.steady_client import SteadyClient, steady_client

pytestmark = pytest.mark.faults

OUTAGE_SECONDS: Final = float(os.environ.get("ROADSTEAD_OUTAGE_SECONDS", "40"))
"""Longer than the 30 s after which the operator takes a cell that is silent for unknown."""
BACK_SECONDS: Final = 60.0
"""From a part's return to a fleet that is steered again."""
PER_SECOND: Final = 10
MOST_RETRIED: Final = 5
"""Of two gateways that are restarted."""
NAME: Final = "alone"
CONTROL_PLANE: Final = ("kube-apiserver", "etcd")
RAY: Final = ("ray-head", "head-agent")
EVERYTHING: Final = ("operator", "postgres", *CONTROL_PLANE, *RAY)


@pytest.fixture(scope="module")
def alone(fleet: EmbeddedFleet) -> Iterator[str]:
    """A model with a replica on each of the two nodes."""
    with pair(fleet, NAME) as name:
        yield name


class Watch:
    """What is looked at while a part is away."""

    def __init__(self, fleet: EmbeddedFleet, client: SteadyClient, say: Say, gateways: TwoGateways | None) -> None:
        self.fleet = fleet
        self.client = client
        self.say = say
        self.gateways = gateways
        self.engines = fleet.engines(NAME)

    async def while_away(self, away: AbstractAsyncContextManager[None]) -> None:
        """Nothing fails for as long as the part is away, nor until the fleet is steered again."""
        began = time.time()
        async with away:
            await self._pass(OUTAGE_SECONDS / 2)
            if self.gateways is not None:
                await self.gateways.restart_in_turn()
            await self._pass(OUTAGE_SECONDS / 2)
        steered = await self._steered()
        asked = self.client.asked(since=began)
        slowest = max(one.seconds for one in asked)
        retried = len(self.client.retried(since=began))
        self.say(
            f"{OUTAGE_SECONDS:.0f} s away: {len(asked)} asked, {retried} tried again, slowest {slowest:.1f} s, "
            f"steered again after {steered:.1f} s"
        )
        assert self.client.failures(since=began) == []
        assert retried <= (MOST_RETRIED if self.gateways is not None else 0)
        assert len(asked) >= PER_SECOND * OUTAGE_SECONDS * 0.95
        assert self.fleet.engines(NAME) == self.engines
        assert steered <= BACK_SECONDS

    async def _pass(self, seconds: float) -> None:
        """Time passes; a client that fails is noticed at once, not at the end."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.client.failures() == []
            await asyncio.sleep(min(1.0, max(0.0, until - time.monotonic())))

    async def _steered(self) -> float:
        """Seconds until another model was applied, served, asked and deleted: by every part of the fleet."""
        began = time.monotonic()
        variants = {"q4": self.fleet.weights.q4}
        await asyncio.to_thread(self._insist, "proof", variants)
        await self.fleet.until_model("proof", "Ready", seconds=2 * BACK_SECONDS)
        assert (await self.fleet.answers("proof")).text
        steered = time.monotonic() - began
        await asyncio.to_thread(self.fleet.kubectl, "delete", "lm/proof", "--timeout=90s")
        return steered

    def _insist(self, name: str, variants: dict[str, str]) -> None:
        """Apply as a person does to whom an API server that has just come back says that it is not ready yet."""
        until = time.monotonic() + BACK_SECONDS
        spec = {
            "variants": [{"name": variant, "source": source} for variant, source in variants.items()],
            "requirements": {"contextTokens": 512},
        }
        said = self.fleet.apply_spec(name, spec, check=False)
        while f"{name} created" not in said and time.monotonic() < until:
            said = self.fleet.apply_spec(name, spec, check=False)
        assert f"{name} created" in said or f"{name} unchanged" in said, said


@contextlib.asynccontextmanager
async def _watching(
    fleet: EmbeddedFleet, folder: Path, say: Say, *, gateways: TwoGateways | None = None
) -> AsyncIterator[Watch]:
    url = fleet.fleet.gateway_url if gateways is None else gateways.url
    log = folder / "asked.jsonl"
    with steady_client(url, key=fleet.fleet.api_key, model=NAME, log=log, per_second=PER_SECOND) as client:
        yield Watch(fleet, client, say, gateways)


@contextlib.asynccontextmanager
async def _while_the_operator_waits(
    fleet: EmbeddedFleet, away: AbstractAsyncContextManager[None]
) -> AsyncIterator[None]:
    """It has lost its Lease and begun anew: it is up, and nobody has a reason to end it once more."""
    healthy = answers(f"http://127.0.0.1:{fleet.fleet.ports['operator']}/healthz")
    async with away:
        yield
        assert await healthy() is None


async def test_serving_goes_on_without_the_operator(fleet: EmbeddedFleet, alone: str, tmp_path: Path, say: Say) -> None:
    async with _watching(fleet, tmp_path, say) as watch:
        await watch.while_away(ended(fleet, "operator"))


async def test_serving_goes_on_without_the_ledger(fleet: EmbeddedFleet, alone: str, tmp_path: Path, say: Say) -> None:
    async with _watching(fleet, tmp_path, say) as watch:
        await watch.while_away(ended(fleet, "postgres"))


async def test_serving_goes_on_without_an_api_server_and_through_restarts_of_gateways(
    fleet: EmbeddedFleet, alone: str, tmp_path: Path, say: Say
) -> None:
    async with (
        two_gateways(fleet, tmp_path) as gateways,
        _watching(fleet, tmp_path, say, gateways=gateways) as watch,
    ):
        await watch.while_away(_while_the_operator_waits(fleet, ended(fleet, *CONTROL_PLANE)))


async def test_serving_goes_on_while_api_server_and_ledger_take_connections_and_answer_nothing(
    fleet: EmbeddedFleet, alone: str, tmp_path: Path, say: Say
) -> None:
    async with _watching(fleet, tmp_path, say) as watch:
        await watch.while_away(held_still(fleet, "kube-apiserver", "postgres"))


async def test_serving_goes_on_without_the_head_of_ray(
    fleet: EmbeddedFleet, alone: str, tmp_path: Path, say: Say
) -> None:
    async with _watching(fleet, tmp_path, say) as watch:
        await watch.while_away(ended(fleet, *RAY))


async def test_serving_goes_on_without_any_of_them_and_through_restarts_of_gateways(
    fleet: EmbeddedFleet, alone: str, tmp_path: Path, say: Say
) -> None:
    async with (
        two_gateways(fleet, tmp_path) as gateways,
        _watching(fleet, tmp_path, say, gateways=gateways) as watch,
    ):
        await watch.while_away(ended(fleet, *EVERYTHING))
