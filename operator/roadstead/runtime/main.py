"""One operator process, put together: connect, lead, loop, serve health, end in order.

A standby does all of this but the loop. Losing the Lease ends the process at once, without any clean-up: nothing proves
that what it still has in flight is not already somebody else's to do, and the doors refuse it by its epoch.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from roadstead.adapters.directory import Directory, FileDirectory
from roadstead.adapters.kube.cluster import KubernetesCluster
from roadstead.adapters.kube.lease import Leadership, LeaseLost, LeaseSettings
from roadstead.adapters.kube.parse import model_spec
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.adapters.kube.workloads import Workloads, read_workloads
from roadstead.adapters.pod_directory import PodDirectory
from roadstead.adapters.postgres.schema_version import SchemaProblem
from roadstead.adapters.postgres.store import PostgresLedger
from roadstead.handlers import edge
from roadstead.ports import DoorError
from roadstead.runtime.doors import Doors
from roadstead.runtime.health import Vitals, serve_health
from roadstead.runtime.loop import FleetLoop
from roadstead.runtime.metrics import OperatorMetrics
from roadstead.runtime.planner_process import PlannerProcess
from roadstead.runtime.read_api import served_read_api
from roadstead.runtime.settings import OperatorSettings
from roadstead.runtime.trigger import Trigger
from roadstead.services.act import Executor
from roadstead.services.observe import Ports
from roadstead.services.outlook import Outlook
from roadstead.services.prompt_ledger import PromptLedger
from roadstead.services.questions import Questions
from roadstead.services.resolutions import ResolutionBook
from roadstead.services.turn import Turn

EXIT_LEASE_LOST = 3
_LAST_TURN_SECONDS = 15.0
_RETRY_SECONDS = 2.0
_LOOK_SECONDS = 0.1
_CLOCK_SECONDS = 2.0

log = structlog.get_logger(__name__)


async def run(settings: OperatorSettings) -> None:
    """Run until asked to end.

    Raises ``SchemaProblem`` if this program cannot live with the ledger's schema, ``WorkloadsProblem`` if it cannot
    read what the chart says.
    """
    workloads = read_workloads(settings.workloads_file) if settings.workloads_file is not None else None
    trigger, metrics = Trigger(), OperatorMetrics()
    epoch = _Epoch()
    async with AsyncExitStack() as stack:
        kube = KubeSettings(
            namespace=settings.namespace,
            watch_namespaces=settings.watch_namespaces,
            gateway_url=settings.gateway_url,
            silence_seconds=settings.watch_silence_seconds,
        )
        cluster = await stack.enter_async_context(
            KubernetesCluster.connect(kube, poke=trigger.poke, workloads=workloads)
        )
        loop: FleetLoop | None = None
        # Before anything that waits for the API server: a process that waits is well, and nobody is to end it for that.
        health = await serve_health(settings.listen, vitals=_vitals(epoch, lambda: loop, cluster), metrics=metrics)
        stack.push_async_callback(health.cleanup)
        # Doors tell by the clock how old an answer is: it is put right before they give the first one.
        await cluster.put_clock_right(within_seconds=_CLOCK_SECONDS)
        doors = await stack.enter_async_context(
            Doors.open(
                _directory(settings, cluster, workloads),
                token_file=settings.door_token_file,
                epoch=epoch,
                clock=cluster.clock,
                poke=trigger.poke,
            )
        )
        epoch.leadership = cluster.leadership(
            _lease(settings, workloads), doors=doors.highest_epoch, lost=_end_the_process
        )
        following = asyncio.create_task(epoch.leadership.follow(), name="follow the Lease")
        stack.callback(following.cancel)
        postgres = await stack.enter_async_context(await _ledger(settings, cluster, epoch=epoch, trigger=trigger))
        ledger = await stack.enter_async_context(PromptLedger(postgres, poke=trigger.poke))
        ports = Ports(cluster=cluster, agents=doors.agents, cells=doors.cells, gateways=doors.gateways, ledger=ledger)
        planner = await stack.enter_async_context(PlannerProcess())
        resolutions = ResolutionBook()
        outlook = Outlook(
            ports=ports,
            planner=planner,
            resolutions=resolutions,
            clock=cluster.clock,
            leading=lambda: epoch.leading,
        )
        loop = FleetLoop(
            turn=Turn(
                ports=ports,
                planner=planner,
                resolutions=resolutions,
                clock=cluster.clock,
                executor=Executor(ports=ports, resolutions=resolutions, count=metrics.count_action, poke=trigger.poke),
                note=outlook.note,
            ),
            trigger=trigger,
            metrics=metrics,
            synced=lambda: cluster.synced,
            fenced=epoch.rise_above,
        )
        questions = Questions(outlook=outlook, reasoner=planner, agents=doors.agents, read_spec=model_spec)
        await stack.enter_async_context(
            served_read_api(settings, outlook=outlook, questions=questions, ports=ports, logs=doors.agents.logs)
        )
        await _synced(cluster)
        following.cancel()
        leading = asyncio.create_task(_lead(epoch.leadership, loop, metrics), name="lead")
        await edge.serve(
            models=cluster.deliver_model,
            pools=cluster.deliver_pool,
            login=cluster.kopf_credentials,
            namespaces=settings.watch_namespaces,
            silence_seconds=settings.watch_silence_seconds,
        )
        await _end(leading, loop, epoch.leadership)


def _directory(settings: OperatorSettings, cluster: KubernetesCluster, workloads: Workloads | None) -> Directory:
    """Where the doors are: in a file, or at Pods."""
    if settings.directory_file is not None:
        return FileDirectory(settings.directory_file)
    return PodDirectory(
        pods=cluster.doors,
        nodes=cluster.nodes,
        cells=workloads.cells.items() if workloads is not None else (),
        clock=cluster.clock,
    )


def _lease(settings: OperatorSettings, workloads: Workloads | None) -> LeaseSettings:
    """The Lease of this release of the chart; on one machine there is one fleet and its name is fixed."""
    release = workloads.release if workloads is not None else "roadstead"
    return LeaseSettings(namespace=settings.namespace, identity=settings.identity, name=f"{release}-operator")


async def _synced(cluster: KubernetesCluster) -> None:
    """Every list has been read once.

    Before that nobody should lead; and Kopf, which looks for our kinds only once, would not find them if they are being
    installed just now.
    """
    while not cluster.synced:  # noqa: ASYNC110 - the stores tell no one event
        await asyncio.sleep(_LOOK_SECONDS)


class _Epoch:
    """Our epoch for every door, before there is a leadership and while it rises."""

    def __init__(self) -> None:
        self.leadership: Leadership | None = None

    def __call__(self) -> int:
        return self.leadership.epoch if self.leadership is not None else 0

    @property
    def leading(self) -> bool:
        return self.leadership is not None and self.leadership.leading

    async def rise_above(self, seen: int) -> None:
        """A door has seen a higher epoch: if the Lease is still ours, the epoch was lost with somebody's state."""
        if self.leadership is None:
            return
        try:
            await self.leadership.raise_epoch(seen)
        except LeaseLost as error:
            _end_the_process(error.message)
        except DoorError as error:
            log.warning("epoch.not_raised", code=error.code, message=error.message)


async def _ledger(
    settings: OperatorSettings, cluster: KubernetesCluster, *, epoch: _Epoch, trigger: Trigger
) -> PostgresLedger:
    """The ledger of this installation; waits for the API server, but not for Postgres."""
    installation = settings.installation
    while not installation:
        try:
            installation = await cluster.installation()
        except DoorError as error:
            log.warning("installation.unknown", code=error.code, message=error.message)
            await asyncio.sleep(_RETRY_SECONDS)
    ledger = PostgresLedger(
        settings.database_address(),
        installation=installation,
        epoch=epoch,
        clock=cluster.clock,
        poke=trigger.poke,
    )
    try:
        await ledger.require_schema()
    except SchemaProblem:
        raise
    except DoorError as error:
        log.warning("ledger.away", code=error.code, message=error.message)
    return ledger


async def _lead(leadership: Leadership, loop: FleetLoop, metrics: OperatorMetrics) -> None:
    metrics.epoch.set(await leadership.acquire())
    metrics.leading.set(1)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(leadership.keep(), name="keep the Lease")
        tasks.create_task(loop.run(), name="loop")


def _vitals(epoch: _Epoch, loop: Callable[[], FleetLoop | None], cluster: KubernetesCluster) -> Vitals:
    return Vitals(
        leading=lambda: epoch.leading,
        last_turn=lambda: running.last_turn if (running := loop()) is not None else None,
        led_since=lambda: running.began if (running := loop()) is not None else None,
        watch_ages=cluster.watch_ages,
        synced=lambda: cluster.synced,
    )


async def _end(leading: asyncio.Task[None], loop: FleetLoop, leadership: Leadership) -> None:
    """Let the last turn end, then give the Lease back, so that a standby need not wait for it to expire."""
    loop.stop()
    if not leadership.leading:
        leading.cancel()
    deadline = asyncio.get_running_loop().time() + _LAST_TURN_SECONDS
    while leadership.leading and not loop.ended and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await leadership.release()
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)


def _end_the_process(why: str) -> None:
    log.error("operator.ends", why=why)
    os._exit(EXIT_LEASE_LOST)
