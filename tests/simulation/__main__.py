"""``python -m tests.simulation``: a fleet's doors as one process, with Nodes, models and heartbeats if asked for."""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from roadstead.adapters.kube.api import connected
from roadstead.adapters.kube.settings import KubeSettings
from tests.simulation import objects
from tests.simulation.doors import served
from tests.simulation.fleet import SimulatedFleet, write_directory
from tests.simulation.heartbeats import STATUS_SECONDS, Heartbeats
from tests.simulation.pace import LIKE_REAL, Pace

_PLAIN = structlog.processors.JSONRenderer()
"""Without the values of variables: a traceback of a thousand machines would be a book."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--cells", type=int, default=1)
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--port", type=int, default=0, help="of all doors; 0: a free one")
    parser.add_argument("--directory", type=Path, required=True, help="file to write: ROADSTEAD_DIRECTORY_FILE")
    parser.add_argument("--token-file", type=Path, required=True, help="door token; made if it is not there")
    parser.add_argument("--kubeconfig", type=Path, help="for the gateways' watch, Nodes, models and heartbeats")
    parser.add_argument("--namespace", default="roadstead", help="of the ModelRoutes and of the models")
    parser.add_argument("--make-nodes", action="store_true", help="apply the Nodes and their WorkerPool")
    parser.add_argument("--models", type=int, default=0, help="apply so many LocalModels")
    parser.add_argument("--heartbeats", action="store_true", help="renew the Nodes' Leases every 10 s")
    parser.add_argument("--status-seconds", type=float, default=STATUS_SECONDS, help="between statuses of a Node")
    parser.add_argument("--fetch-seconds", type=float, default=LIKE_REAL.fetch)
    parser.add_argument("--startup-seconds", type=float, default=LIKE_REAL.startup)
    parser.add_argument("--teardown-seconds", type=float, default=LIKE_REAL.teardown)
    found = parser.parse_args()
    if found.kubeconfig is None and (found.make_nodes or found.models or found.heartbeats):
        parser.error("Nodes, models and heartbeats need --kubeconfig")
    return found


async def _run(given: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    if not given.token_file.exists():
        given.token_file.write_text(secrets.token_urlsafe(24), encoding="ascii")
    pace = Pace(fetch=given.fetch_seconds, startup=given.startup_seconds, teardown=given.teardown_seconds)
    fleet = SimulatedFleet.of(given.nodes, cells=given.cells, gateways=given.gateways, pace=pace)
    async with AsyncExitStack() as stack:
        if given.kubeconfig is not None:
            await _in_the_api_server(given, fleet, stack)
        doors = served(
            fleet,
            token_file=given.token_file,
            port=given.port,
            kubeconfig=given.kubeconfig,
            namespace=given.namespace,
        )
        address = await stack.enter_async_context(doors)
        write_directory(given.directory, fleet, address)
        _say(f"{len(fleet.nodes)} agents, {len(fleet.cells)} cells and {len(fleet.gateways)} gateways at {address}")
        await stopped.wait()


async def _in_the_api_server(given: argparse.Namespace, fleet: SimulatedFleet, stack: AsyncExitStack) -> None:
    api = await stack.enter_async_context(connected(KubeSettings(kubeconfig=given.kubeconfig)))
    began = time.monotonic()
    await objects.namespace(api, given.namespace)
    if given.make_nodes:
        await objects.nodes(api, fleet.nodes)
    await objects.apply(api, (objects.model_of_many(given.namespace, number) for number in range(given.models)))
    _say(f"{given.models} models applied in {time.monotonic() - began:.1f} s, Nodes and pool included")
    if given.heartbeats:
        beats = Heartbeats(api=api, alive=lambda name: fleet.nodes[name].alive, status_seconds=given.status_seconds)
        await stack.enter_async_context(beats.beating(fleet.nodes))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        processors=[structlog.processors.add_log_level, structlog.processors.format_exc_info, _PLAIN],
    )
    asyncio.run(_run(_arguments()))
