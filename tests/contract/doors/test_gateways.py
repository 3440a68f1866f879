"""Gateways: their counters are read, and only what the loop should act on wakes it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from roadstead.adapters.gateways.doors import GatewayDoors
from roadstead.domain.snapshot import GatewayFacts, Known, Stale
from roadstead_gateway.contract import RouteSeen, SlotTally, Tallies
from tests.contract.doors.conftest import Operator
from tests.contract.doors.scripted_door import ScriptedDoor
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract


def tallies(in_flight: int, *, version: str = "7") -> Tallies:
    tally = SlotTally(
        slot="s", in_flight=in_flight, requests=9, errors=0, tokens=0, first_token_seconds=0.0, first_tokens=0
    )
    return Tallies(gateway="g", synced=True, routes=(RouteSeen(name="r", resource_version=version),), slots=(tally,))


@pytest.fixture
async def gateways(operator: Operator, door: ScriptedDoor) -> AsyncIterator[GatewayDoors]:
    operator.lists(gateways={"g": door.url})
    door.tallies = tallies(0)
    async with GatewayDoors(
        directory=operator.directory,
        token_file=operator.token_file,
        clock=operator.clock,
        poke=operator.pokes.append,
        poll_seconds=0.02,
        backoff=operator.backoff,
    ) as gateways:
        yield gateways


def facts(in_flight: int, version: str = "7") -> GatewayFacts:
    return GatewayFacts(routes=(("r", version),), in_flight=(("s", in_flight),))


async def test_the_loop_wakes_for_routes_and_for_slots_that_become_busy_or_idle(
    gateways: GatewayDoors, door: ScriptedDoor, operator: Operator
) -> None:
    expected = 0
    for answer, wakes in (
        (tallies(0), True),
        (tallies(3), True),
        (tallies(5), False),
        (tallies(1, version="8"), True),
        (tallies(0, version="8"), True),
    ):
        door.tallies = answer
        wanted = facts(answer.slots[0].in_flight, answer.routes[0].resource_version)
        await until(lambda wanted=wanted: gateways.facts() == {"g": Known(wanted)}, f"{wanted}")  # type: ignore[misc]
        expected += wakes
        assert operator.pokes == ["gateway g"] * expected


async def test_a_gateway_that_is_gone_becomes_stale(
    gateways: GatewayDoors, door: ScriptedDoor, operator: Operator
) -> None:
    await until(lambda: gateways.facts() == {"g": Known(facts(0))}, "the gateway is known")
    await door.close()
    seen = operator.now
    operator.passes(31)
    await until(lambda: gateways.facts() == {"g": Stale(facts(0), seen)}, "the gateway is stale")
