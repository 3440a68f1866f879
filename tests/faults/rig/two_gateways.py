"""A second gateway beside the fleet's own, and one address for both, as a Deployment of two and its Service have.

The second is the same program with ports and saved routes of its own. The operator does not count what is under way
in it, so what is drained meanwhile must not be asked for there. A Service sends a new connection to a gateway that
takes it; one that was told to end takes none, and finishes what is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from roadstead.embedded.processes import ProcessSpec, child_environment
from roadstead.embedded.readiness import answers
from tests.faults.rig.outage import restarted
from tests.fixtures.embedded_fleet import EmbeddedFleet
from tests.fixtures.free_ports import free_port
from tests.fixtures.patience import found
from tests.fixtures.service_address import ServiceAddress

_HOST = "127.0.0.1"
_OWN = "gateway"
_READY_SECONDS = 20.0
_DRAIN_SECONDS = 30.0


@dataclass(slots=True)
class TwoGateways:
    """Both run; ``url`` is the address of the two."""

    url: str
    _fleet: EmbeddedFleet
    _spec: ProcessSpec
    _log: Path
    _second: asyncio.subprocess.Process | None = None

    async def restart_in_turn(self) -> None:
        """As a rollout does: one is told to end, drains and starts again, and when it serves it is the other's turn."""
        await restarted(self._fleet, _OWN)
        await self.stop()
        await self.start()

    async def start(self) -> None:
        environment = child_environment(self._spec, mark=self._fleet.home.identity)
        with self._log.open("ab") as log:
            self._second = await asyncio.create_subprocess_exec(
                *self._spec.command, env=environment, stdout=log, stderr=log
            )
        await found(self._ready, lambda: f"the second gateway serves: {self._log.read_text()}", seconds=_READY_SECONDS)

    async def stop(self) -> None:
        assert self._second is not None
        self._second.terminate()
        await asyncio.wait_for(self._second.wait(), _DRAIN_SECONDS)

    async def _ready(self) -> bool | None:
        assert self._spec.ready is not None
        return True if await self._spec.ready() is None else None


@contextlib.asynccontextmanager
async def two_gateways(fleet: EmbeddedFleet, folder: Path) -> AsyncIterator[TwoGateways]:
    """Until the block ends; nothing is saved yet in ``folder``, so the API server must be there at the start."""
    own = next(spec for spec in fleet.fleet.specs((_OWN,)) if spec.name == _OWN)
    client, internal, service = free_port(), free_port(), ServiceAddress(_HOST, free_port())
    state = folder / "gateway-1"
    second = dataclasses.replace(
        own,
        env={
            **own.env,
            "ROADSTEAD_LISTEN": f"{_HOST}:{client}",
            "ROADSTEAD_INTERNAL_LISTEN": f"{_HOST}:{internal}",
            "ROADSTEAD_STATE_DIR": str(state),
        },
        ready=answers(f"http://{_HOST}:{internal}/readyz"),
    )
    gateways = TwoGateways(f"http://{service.address}", fleet, second, folder / "gateway-1.log")
    service.start()
    try:
        await gateways.start()
        await found(lambda: _saved(state), "the second gateway has saved its routes")
        service.point((_HOST, fleet.fleet.ports["gateway"]), (_HOST, client))
        yield gateways
    finally:
        await gateways.stop()
        service.stop()


async def _saved(state: Path) -> bool | None:
    return (state / "routes.json").exists() or None
