"""The node agent: owner of a node's weight store, and the one who knows what memory is really free there.

It resolves and fetches what it is asked to, grants memory to replicas, keeps what engines measured, and tells all of
it. It decides nothing: what runs where is the operator's plan.

A restart loses nothing: blobs, parts, measurements and the epoch are files, the book of leases is the locked files.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from pydantic import ValidationError

from roadstead_weights.fetching import Fetcher
from roadstead_weights.sources import SourcePolicy
from roadstead_weights.sources_http import HttpLimits, HttpReader
from roadstead_weights.store import WeightStore
from roadstead_worker.agent.budget import Budget, BudgetFile
from roadstead_worker.agent.devices import Devices
from roadstead_worker.agent.door import BearerFile
from roadstead_worker.agent.engine_logs import EngineLogs
from roadstead_worker.agent.epoch import EpochFile
from roadstead_worker.agent.hardware import available_memory, installed_engines, read_hardware
from roadstead_worker.agent.leases import LeaseBook
from roadstead_worker.agent.longpoll import PublishedState
from roadstead_worker.agent.measurements import MeasurementStore
from roadstead_worker.agent.memory_bandwidth import memory_bandwidth
from roadstead_worker.agent.node_doors import NodeDoors
from roadstead_worker.agent.node_state import NodeParts, NodeTelling
from roadstead_worker.agent.resolver import Resolver
from roadstead_worker.agent.settings import NodeSettings
from roadstead_worker.agent.weights import NodeWeights
from roadstead_worker.contract import NODE_LONG_POLL_SECONDS, NodeState
from roadstead_worker.lease_file import AGENT_SOCKET

log = structlog.get_logger(__name__)

_UNIX_PATH_LIMIT: Final = 107
_SHUTDOWN_SECONDS: Final = 5.0


class CannotStart(Exception):
    """Why the agent does not run; a sentence for whoever started it."""


@dataclass(frozen=True, slots=True)
class RunningNode:
    """Where a started agent can be reached."""

    address: str
    """``host:port`` of the operator's door."""
    socket: Path


def main() -> int:
    """Run until SIGTERM or SIGINT; 2 when the settings or the store do not allow it."""
    try:
        settings = NodeSettings()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = "ROADSTEAD_" + "_".join(str(part) for part in problem["loc"]).upper()
            sys.stderr.write(f"{name}: {problem['msg']}\n")
        return 2
    try:
        asyncio.run(_run(settings))
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


async def _run(settings: NodeSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_node(settings):
        await stop.wait()
        log.info("node agent stops", node=settings.node)


@contextlib.asynccontextmanager
async def running_node(settings: NodeSettings) -> AsyncIterator[RunningNode]:
    """A node agent that runs as long as the context is open. Raises ``CannotStart``."""
    socket_path = settings.store / AGENT_SOCKET
    if len(str(socket_path).encode()) > _UNIX_PATH_LIMIT:
        raise CannotStart(f"{socket_path} is longer than a unix socket may be: give ROADSTEAD_STORE a shorter path.")
    async with contextlib.AsyncExitStack() as stack:
        store = WeightStore(settings.store, reserve_bytes=settings.disk_reserve_bytes)
        try:
            store.open()
        except BlockingIOError:
            raise CannotStart(f"Another agent owns the store {settings.store}.") from None
        except OSError as error:
            raise CannotStart(f"The store {settings.store} cannot be used: {error.strerror}.") from error
        stack.callback(store.close)
        yield await _start(settings, store, socket_path, stack)


async def _start(
    settings: NodeSettings, store: WeightStore, socket_path: Path, stack: contextlib.AsyncExitStack
) -> RunningNode:
    """Put the parts together; what ends them is pushed on ``stack``, in the order of their making."""
    policy = SourcePolicy(roots=settings.source_roots, http_hosts=settings.http_hosts)
    limits = HttpLimits(
        stall_seconds=settings.http_stall_seconds,
        attempts=settings.http_attempts,
        backoff_seconds=settings.http_backoff_seconds,
    )
    http = HttpReader(policy, limits)
    stack.push_async_callback(http.close)
    fetcher = Fetcher(store, policy, http)
    resolver = Resolver(store, policy, http, fetcher, folder=settings.store / "resolutions")
    stack.push_async_callback(resolver.close)
    published: PublishedState[NodeState] = PublishedState(wait_seconds=NODE_LONG_POLL_SECONDS)
    # The weights poke the telling, which tells the weights: one of the two has to be named before it is made.
    weights = NodeWeights(store, fetcher, on_change=lambda: telling.poke())  # noqa: PLW0108
    stack.push_async_callback(weights.close)
    parts = await _with_bandwidth(_parts(settings, store, weights), settings.store / "memory-bandwidth.json")
    await parts.devices.first_look()
    telling = NodeTelling(parts, published, tick_seconds=settings.tick_seconds)
    telling.tell()
    task = asyncio.create_task(telling.run(), name="telling")
    stack.push_async_callback(_end, task)
    stack.push_async_callback(_end, asyncio.create_task(parts.devices.run(telling.poke), name="look at devices"))
    logs = EngineLogs(
        store=settings.store,
        held=lambda: frozenset((lease.slot, lease.index) for lease in parts.leases.states()),
    )
    stack.push_async_callback(_end, asyncio.create_task(logs.prune_for_ever(), name="prune engine logs"))
    doors = NodeDoors(parts=parts, resolver=resolver, published=published, logs=logs, poke=telling.poke)
    await _open_socket(doors, socket_path, stack)
    address = await _open_port(doors, settings, stack)
    log.info("node agent runs", node=settings.node, address=address, store=str(settings.store))
    return RunningNode(address, socket_path)


def _parts(settings: NodeSettings, store: WeightStore, weights: NodeWeights) -> NodeParts:
    limited = not settings.engines_elsewhere
    hardware = read_hardware(limited=limited)
    budget = BudgetFile(
        settings.budget_file,
        Budget(
            memory_bytes=hardware.memory_bytes if settings.memory_bytes is None else settings.memory_bytes,
            cores=hardware.cores if settings.cores is None else settings.cores,
        ),
    )
    try:
        epoch = EpochFile(settings.store / "epoch")
    except ValueError as error:
        raise CannotStart(str(error)) from error
    devices = Devices(nvml=settings.nvml, look_every_seconds=settings.devices_seconds)
    return NodeParts(
        node=settings.node,
        hardware=hardware,
        engines=installed_engines() if settings.engine_offers is None else settings.engine_offers,
        epoch=epoch,
        budget=budget,
        store=store,
        weights=weights,
        leases=LeaseBook(
            settings.store,
            budget_bytes=lambda: budget.current().memory_bytes,
            available_bytes=lambda: available_memory(limited=limited),
            devices=lambda: devices.current.devices,
        ),
        measurements=MeasurementStore(settings.store / "measurements"),
        devices=devices,
    )


async def _with_bandwidth(parts: NodeParts, kept: Path) -> NodeParts:
    """What memory gives is told from the beginning, so that it wakes nobody later."""
    parts.leases.refresh()
    usable = read_hardware().cores
    bandwidth = await asyncio.to_thread(
        memory_bandwidth,
        kept,
        cores=frozenset(os.sched_getaffinity(0)),
        available_bytes=available_memory(),
        # With fewer cores than engines have, as in a container with a quota, it would not be that of all.
        may_measure=not parts.leases.states() and usable >= parts.hardware.cores,
    )
    return replace(parts, hardware=parts.hardware.model_copy(update={"memory_bandwidth": bandwidth}))


async def _open_socket(doors: NodeDoors, path: Path, stack: contextlib.AsyncExitStack) -> None:
    """The replicas' door. A socket left by a killed agent is removed: the store's lock says that it is dead."""
    path.unlink(missing_ok=True)
    runner = await _runner(doors.replica_application(), stack)
    await web.UnixSite(runner, str(path)).start()
    path.chmod(0o600)


async def _open_port(doors: NodeDoors, settings: NodeSettings, stack: contextlib.AsyncExitStack) -> str:
    host, _, port = settings.listen.rpartition(":")
    runner = await _runner(doors.operator_application(BearerFile(settings.door_token_file)), stack)
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except OSError as error:
        raise CannotStart(f"{settings.listen} cannot be listened on: {error.strerror}.") from error
    return f"{host}:{runner.addresses[0][1]}"


async def _runner(application: web.Application, stack: contextlib.AsyncExitStack) -> web.AppRunner:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
