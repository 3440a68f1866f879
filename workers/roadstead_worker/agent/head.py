"""The head agent: the only door to Ray Serve's REST API of one cell, beside its head.

Ray's PUT replaces everything, without compare-and-swap and without knowing who leads, and its one token opens
everything. So the token stays here, and a write must name the leader's epoch and the digest of the configuration it
was planned on. Reads and writes take turns: the base is read again right before each PUT, and no state older than the
last PUT is ever published after it.

Holds no desired state: what Ray has is what is told, and a restart loses nothing but the last good answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import structlog
from aiohttp import web

from roadstead_worker.agent.cell_changes import PublishedCell
from roadstead_worker.agent.cell_state import application_states, base_of, settled
from roadstead_worker.agent.door import BearerFile, DoorProblem, door_application, read_body, wire_response
from roadstead_worker.agent.epoch import EpochFile
from roadstead_worker.agent.ray_rest import RayAway, RayDashboard, RayRefused, RayServe
from roadstead_worker.agent.serve_config import ConfigInvalid, base_digest, checked_applications
from roadstead_worker.contract import CellState, ConfigAccepted, ConfigRequest, WorkerState

BUSY_SECONDS: Final = 0.5
"""Between looks while something is under way: a replica that becomes ready is told within a second."""
SLOW_SECONDS: Final = 1.0
"""Between looks while something has been under way for ``IMPATIENT_SECONDS`` without any change."""
IDLE_SECONDS: Final = 2.0
IMPATIENT_SECONDS: Final = 60.0
RECENT_SECONDS: Final = 5.0
WORKERS_SECONDS: Final = 5.0
UNREACHABLE_SECONDS: Final = 6.0
"""Ray's dashboard counts as unreachable when its last answer is older and a later question failed."""
BODY_LIMIT_BYTES: Final = 8 * 1024 * 1024

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSettings:
    """From the environment of the sidecar."""

    cell: str
    listen_host: str
    listen_port: int
    dashboard: str
    """``http://host:8265``."""
    ray_token: Path | None
    state_dir: Path
    door_token: Path
    replica_host: str
    """Address replicas listen on where it is not their node's (several Ray nodes on one machine); else empty."""
    serve_port: int
    """Port of Serve's own proxy on the head, which nobody uses but Ray insists on."""

    @classmethod
    def from_environment(cls, given: Mapping[str, str]) -> Self:
        """Raises ``ValueError``, which names what is missing."""
        needed = ("ROADSTEAD_CELL", "ROADSTEAD_LISTEN", "ROADSTEAD_RAY_DASHBOARD", "ROADSTEAD_STATE_DIR")
        missing = [name for name in (*needed, "ROADSTEAD_DOOR_TOKEN_FILE") if not given.get(name)]
        if missing:
            raise ValueError(f"a head agent needs {', '.join(missing)} in its environment")
        host, _, port = given["ROADSTEAD_LISTEN"].rpartition(":")
        token = given.get("ROADSTEAD_RAY_TOKEN_FILE", "")
        return cls(
            cell=given["ROADSTEAD_CELL"],
            listen_host=host,
            listen_port=int(port),
            dashboard=given["ROADSTEAD_RAY_DASHBOARD"],
            ray_token=Path(token) if token else None,
            state_dir=Path(given["ROADSTEAD_STATE_DIR"]),
            door_token=Path(given["ROADSTEAD_DOOR_TOKEN_FILE"]),
            replica_host=given.get("ROADSTEAD_REPLICA_HOST", ""),
            serve_port=int(given.get("ROADSTEAD_SERVE_PORT", "8000")),
        )


class HeadAgent:
    """Looks at Ray, tells what it sees, and writes what the leader says."""

    def __init__(self, settings: HeadSettings, ray: RayDashboard) -> None:
        self._settings = settings
        self._ray = ray
        self._epoch = EpochFile(settings.state_dir / "epoch")
        self.published = PublishedCell()
        self._turn = asyncio.Lock()
        self._poked = asyncio.Event()
        self._serve = RayServe()
        self._workers: tuple[WorkerState, ...] = ()
        self._workers_at = -WORKERS_SECONDS
        self._answered_at: float | None = None
        self._reachable = False
        self._changed_at = time.monotonic()

    async def follow(self) -> None:
        """Look and publish, for ever."""
        while True:
            self._poked.clear()
            try:
                async with self._turn:
                    self._serve = await self._ray.serve()
                    await self._look_at_workers()
                self._answered_at = time.monotonic()
                if not self._reachable:
                    log.info("ray answers", cell=self._settings.cell)
                self._reachable = True
            except (RayAway, RayRefused) as error:
                self._miss(error)
            if self._answered_at is not None:
                self._publish()
            with contextlib.suppress(TimeoutError):
                # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the event.
                async with asyncio.timeout(self._pause_seconds()):
                    await self._poked.wait()

    async def put_config(self, request: web.Request) -> web.Response:
        """Answers 400 ConfigInvalid, 409 StaleEpoch, 412 BaseChanged, 422 ConfigRefused or 503 CellUnreachable, too."""
        wanted = await read_body(request, ConfigRequest)
        try:
            applications = checked_applications(wanted.applications)
        except ConfigInvalid as error:
            raise DoorProblem(status=400, code="ConfigInvalid", message=str(error), field=error.field) from None
        async with self._turn:
            epoch = self._epoch.admit_request(request)
            try:
                await self._swap(wanted.base, applications)
                self._serve = await self._ray.serve()
            except RayAway as error:
                raise DoorProblem(status=503, code="CellUnreachable", message=str(error)) from None
            except RayRefused as error:
                raise DoorProblem(status=422, code="ConfigRefused", message=str(error), field="applications") from None
            finally:
                self._changed_at = time.monotonic()
                self._poked.set()
            self._publish()  # whoever reads after this answer reads what it says
        base = base_of(self._serve)
        if base != base_digest(applications):
            log.error("ray echoes another configuration than was put", cell=self._settings.cell, base=base)
        log.info("config put", cell=self._settings.cell, epoch=epoch, applications=len(applications), base=base)
        return wire_response(ConfigAccepted(base=base))

    async def readyz(self, _request: web.Request) -> web.Response:
        """For the kubelet: 200 while Ray answers, else 503 ``CellUnreachable``."""
        if not self._reachable:
            raise DoorProblem(status=503, code="CellUnreachable", message="Ray's dashboard does not answer.")
        return web.json_response({"status": "ok"})

    async def _swap(self, base: str, applications: list[dict[str, Any]]) -> None:
        current = base_of(await self._ray.serve())
        if base != current:
            raise DoorProblem(
                status=412,
                code="BaseChanged",
                message=f"Planned on {base}, but Ray now holds {current}: look again.",
                field="base",
            )
        settings = self._settings
        http_options = {"host": settings.replica_host or "0.0.0.0", "port": settings.serve_port}  # noqa: S104 - secret-guarded
        await self._ray.put({"proxy_location": "HeadOnly", "http_options": http_options, "applications": applications})

    async def _look_at_workers(self) -> None:
        due = WORKERS_SECONDS if self._workers else BUSY_SECONDS
        if time.monotonic() - self._workers_at >= due:
            self._workers = await self._ray.living_workers()
            self._workers_at = time.monotonic()

    def _miss(self, error: Exception) -> None:
        age = None if self._answered_at is None else time.monotonic() - self._answered_at
        if self._reachable and (age is None or age > UNREACHABLE_SECONDS):
            log.warning("ray does not answer", cell=self._settings.cell, reason=str(error))
            self._reachable = False

    def _publish(self) -> None:
        state = CellState(
            digest="",
            epoch=self._epoch.current,
            cell=self._settings.cell,
            base=base_of(self._serve),
            reachable=self._reachable,
            nodes=tuple(dict.fromkeys(worker.node for worker in self._workers)),
            workers=self._workers,
            applications=application_states(self._serve, replica_host=self._settings.replica_host),
        )
        if self.published.publish(state):
            self._changed_at = time.monotonic()

    def _pause_seconds(self) -> float:
        quiet = time.monotonic() - self._changed_at
        state = self.published.state
        if state is None or not state.reachable or not settled(state.applications):
            return SLOW_SECONDS if quiet > IMPATIENT_SECONDS else BUSY_SECONDS
        return BUSY_SECONDS if quiet < RECENT_SECONDS else IDLE_SECONDS


@contextlib.asynccontextmanager
async def serving(settings: HeadSettings) -> AsyncIterator[asyncio.Task[None]]:
    """The door open and Ray followed, until the context ends. Yields the following task: it ends only by a defect."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    async with aiohttp.ClientSession(trust_env=False) as session:
        ray = RayDashboard(address=settings.dashboard, token=settings.ray_token, session=session)
        agent = HeadAgent(settings, ray)
        door = door_application(token=BearerFile(settings.door_token), body_limit_bytes=BODY_LIMIT_BYTES)
        door.router.add_get("/readyz", agent.readyz)
        door.router.add_get("/state", agent.published.handle)
        door.router.add_put("/config", agent.put_config)
        runner = web.AppRunner(door, access_log=None, shutdown_timeout=5.0)
        await runner.setup()
        follower = asyncio.create_task(agent.follow(), name="follow ray")
        try:
            await web.TCPSite(runner, settings.listen_host, settings.listen_port).start()
            yield follower
        finally:
            agent.published.close()
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
            await runner.cleanup()


async def _run(settings: HeadSettings) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with serving(settings) as follower:
        log.info("head agent serves", cell=settings.cell, port=settings.listen_port)
        stopping = asyncio.ensure_future(stopped.wait())
        await asyncio.wait((stopping, follower), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if follower.done():
            follower.result()


def main() -> int:
    """Run until SIGTERM."""
    asyncio.run(_run(HeadSettings.from_environment(os.environ)))
    return 0
