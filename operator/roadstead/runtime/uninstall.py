"""``python3 -m roadstead.runtime.uninstall``: ends a fleet in order, before `helm uninstall` deletes the chart's part.

Run it as often as need be: each run does what is left. It ends with 0 unless a LocalModel still has our finalizer,
which would keep its namespace from being deleted; what else could not be done is told and left to the person.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from roadstead.adapters.cells.doors import CellDoors
from roadstead.adapters.gateways.doors import GatewayDoors
from roadstead.adapters.kube import owned
from roadstead.adapters.kube.api import Api, connected
from roadstead.adapters.kube.installation import KubernetesInstallation
from roadstead.adapters.kube.lease import Leadership, LeaseSettings
from roadstead.adapters.kube.reflector import Reflector, Resource
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.adapters.kube.store import Store
from roadstead.adapters.pod_directory import PodDirectory
from roadstead.domain.snapshot import Unknown
from roadstead.ports import DoorError
from roadstead.runtime import logs
from roadstead.services.uninstall import Bounds, Remainder, Uninstall

EXIT_HELD, EXIT_SETTINGS, EXIT_LEASE_LOST = 1, 2, 3
_SHARE_OF_WAITS = 0.9
"""The rest is for requests, and for a container to start."""
_LISTED_SECONDS = 30.0
_FIRST_ANSWERS_SECONDS = 3.0
_LOOK_SECONDS = 0.1


class UninstallSettings(BaseSettings):
    """Environment variables with the prefix ``ROADSTEAD_``."""

    model_config = SettingsConfigDict(env_prefix="ROADSTEAD_", frozen=True)

    namespace: str = "roadstead"
    """Where the chart is installed."""

    release: str = "roadstead"
    """Name of the Helm release: the prefix of names and a label of everything that the operator made."""

    watch_namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Namespaces whose LocalModels this release looks after, with commas between; none: all."""

    door_token_file: Path
    """File with the bearer that head agents and gateways demand."""

    uninstall_seconds: float = Field(default=270.0, ge=30)
    """How long all of it may take; `helm uninstall` waits 300 s unless it is told otherwise."""

    log_level: str = "warning"
    """Of what the program's parts say besides; what happens is told on standard output."""

    @field_validator("watch_namespaces", mode="before")
    @classmethod
    def _separated(cls, text: object) -> object:
        return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


@dataclass(slots=True)
class _Leader:
    """Holds the Lease from ``acquire`` to ``release`` and keeps renewing it meanwhile."""

    leadership: Leadership
    keeping: asyncio.Task[None] | None = None

    async def acquire(self) -> int:
        epoch = await self.leadership.acquire()
        self.keeping = asyncio.create_task(self.leadership.keep(), name="keep the Lease")
        return epoch

    async def raise_epoch(self, above: int) -> int:
        return await self.leadership.raise_epoch(above)

    async def release(self) -> None:
        await self.leadership.release()
        if self.keeping is not None:
            await self.keeping


async def uninstall(settings: UninstallSettings) -> Remainder:
    """Take the release down; what could not be done is in the answer."""
    kube = KubeSettings(namespace=settings.namespace, watch_namespaces=settings.watch_namespaces)
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(connected(kube))
        pods = await stack.enter_async_context(_own_pods(api, kube, release=settings.release))
        # Cells are those that a Pod belongs to: without any there is nothing to end, and the chart is not asked.
        cells = sorted({pod.cell for pod in pods() if pod.cell})
        directory = PodDirectory(pods=pods, nodes=tuple, cells=[(cell, "") for cell in cells], clock=_now)
        token = settings.door_token_file
        epoch: Callable[[], int] = lambda: leadership.epoch  # noqa: E731 - the doors and the Lease know each other
        heads = await stack.enter_async_context(
            CellDoors(directory=directory, token_file=token, epoch=epoch, clock=_now, poke=_nobody_waits)
        )
        gateways = await stack.enter_async_context(
            GatewayDoors(directory=directory, token_file=token, clock=_now, poke=_nobody_waits)
        )
        identity = f"uninstall_{socket.gethostname()}_{secrets.token_hex(4)}"
        leadership = Leadership(
            api,
            LeaseSettings(namespace=settings.namespace, identity=identity, name=f"{settings.release}-operator"),
            doors=lambda: _highest_epoch(heads),
            lost=_end_the_process,
        )
        return await Uninstall(
            installation=KubernetesInstallation(api, kube, release=settings.release),
            leader=_Leader(leadership),
            cells=heads,
            gateways=gateways,
            where=f"release {settings.release} in namespace {settings.namespace}",
            say=_say,
            clock=asyncio.get_running_loop().time,
            bounds=Bounds().within(_SHARE_OF_WAITS * settings.uninstall_seconds),
        ).run()


@asynccontextmanager
async def _own_pods(api: Api, settings: KubeSettings, *, release: str) -> AsyncIterator[Callable[[], list[owned.Pod]]]:
    """Pods of this release, kept up to date: a gateway or a head that is replaced has another address."""
    store = Store("Pod", parse=owned.pod, poke=_nobody_waits)
    resource = Resource(
        name="pods",
        path=f"/api/v1/namespaces/{settings.namespace}/pods",
        query={"labelSelector": f"app.kubernetes.io/part-of=roadstead,app.kubernetes.io/instance={release}"},
    )
    reading = asyncio.create_task(Reflector(api, resource, store=store, settings=settings).run(), name="kube pods")
    try:
        async with asyncio.timeout(_LISTED_SECONDS):
            while not store.synced:  # noqa: ASYNC110 - a store tells no event
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        _say(f"warning: Pods could not be listed within {_LISTED_SECONDS:.0f} s, so heads and gateways are not found")
    try:
        yield lambda: list(store.values())
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _highest_epoch(heads: CellDoors) -> int:
    """What the heads have seen; waits a moment for the first answers."""
    try:
        async with asyncio.timeout(_FIRST_ANSWERS_SECONDS):
            while any(isinstance(cell.facts, Unknown) for cell in heads.cells()):  # noqa: ASYNC110 - doors tell no event
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        pass
    return heads.highest_epoch()


def main() -> int:
    """Uninstall once; the exit status says whether a LocalModel is still held."""
    try:
        settings = UninstallSettings()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = "ROADSTEAD_" + "_".join(str(part) for part in problem["loc"]).upper()
            sys.stderr.write(f"{name}: {problem['msg']}\n")
        return EXIT_SETTINGS
    logs.configure(settings.log_level)
    try:
        remainder = asyncio.run(uninstall(settings))
    except DoorError as error:
        _say(f"not uninstalled: {error}")
        return EXIT_HELD
    return _conclude(remainder)


def _conclude(remainder: Remainder) -> int:
    if remainder.left:
        _say("could not be done:")
        for line in remainder.left:
            _say(f"  {line}")
    if remainder.held:
        _say("these LocalModels still have our finalizer; run this again, or let each go: roadstead orphan MODEL")
        for line in remainder.held:
            _say(f"  {line}")
        return EXIT_HELD
    _say(
        "uninstalled; left are LocalModels with their ControllerRevisions, claims roadstead-weights-*, and the database"
    )
    return 0


def _end_the_process(why: str) -> None:
    """An operator leads again: nothing proves that what is under way here is not already undone there."""
    _say(f"the Lease was lost: {why}")
    os._exit(EXIT_LEASE_LOST)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _nobody_waits(_why: str) -> None:
    """The uninstaller looks by itself."""


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
