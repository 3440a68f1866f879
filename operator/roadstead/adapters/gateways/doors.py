"""What gateways work by and what is under way in them: asked every two seconds, for a drain to end promptly.

Counters move with every request, so only this pokes the loop: another version of a route is worked by, or a slot
became busy or idle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from roadstead.adapters.directory import Directory, GatewayDoor
from roadstead.adapters.doors.caller import DoorCaller, TokenFile
from roadstead.adapters.doors.following import FollowedDoors
from roadstead.adapters.doors.watch import Backoff, DoorKind, DoorWatch
from roadstead.domain.snapshot import GatewayFacts, Part
from roadstead_gateway.contract import TALLIES_PATH, Tallies

POLL_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 5.0
_UNAVAILABLE: Final = "GatewayUnavailable"


class GatewayDoors:
    """Answers to the port ``Gateways``. Use as an async context."""

    def __init__(
        self,
        *,
        directory: Directory,
        token_file: Path,
        clock: Callable[[], datetime],
        poke: Callable[[str], None],
        poll_seconds: float = POLL_SECONDS,
        backoff: Backoff | None = None,
    ) -> None:
        self._caller = DoorCaller(token=TokenFile(token_file), epoch=lambda: 0, unavailable=_UNAVAILABLE)
        kind: DoorKind[Tallies, GatewayFacts] = DoorKind(
            word="gateway",
            ask=self._ask,
            understand=lambda tallies, _: gateway_facts(tallies),
            differs=lambda old, new: worth_a_look(old) != worth_a_look(new),
            pause_seconds=lambda _old, _new: poll_seconds,
        )
        self._doors = FollowedDoors[GatewayDoor, Tallies, GatewayFacts](
            lambda: directory.listing().gateways,
            lambda name: DoorWatch(kind, name=name, clock=clock, poke=poke, backoff=backoff or Backoff()),
            poke=poke,
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._caller)
        await self._stack.enter_async_context(self._doors)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def facts(self) -> Mapping[str, Part[GatewayFacts]]:
        """By name; every gateway that the directory lists."""
        return {name: watch.part() for name, (_, watch) in self._doors.all().items()}

    async def _ask(self, url: str, _known: Tallies | None) -> Tallies:
        return await self._caller.read(
            f"{url}{TALLIES_PATH}", Tallies, keep=lambda told: told, kept=Tallies, seconds=_ANSWER_SECONDS
        )


def gateway_facts(tallies: Tallies) -> GatewayFacts:
    return GatewayFacts(
        routes=tuple((route.name, route.resource_version) for route in tallies.routes),
        in_flight=tuple((slot.slot, slot.in_flight) for slot in tallies.slots),
    )


def worth_a_look(tallies: Tallies) -> object:
    """What the loop should know of at once."""
    routes = frozenset((route.name, route.resource_version) for route in tallies.routes)
    return routes, frozenset(slot.slot for slot in tallies.slots if slot.in_flight)
