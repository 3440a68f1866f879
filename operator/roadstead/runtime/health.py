"""Health that tells the truth: not that a socket answers, but how long ago the loop turned and the watches spoke.

``/healthz`` fails when this process leads and has not finished a turn for too long, or has a watch that has been silent
for longer than its bookmarks allow. One that does not lead is well: it may wait for an API server that is away, and to
end it would only make it come back late. ``/readyz`` fails until the lists are read. ``/metrics`` is for Prometheus.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from roadstead.runtime.metrics import OperatorMetrics

TURN_LIMIT_SECONDS = 180.0
WATCH_LIMIT_SECONDS = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What health is judged by; every figure in seconds."""

    leading: Callable[[], bool]
    led_since: Callable[[], float | None]
    """Loop time at which this process began to lead."""
    last_turn: Callable[[], float | None]
    """Loop time of the last good turn."""
    watch_ages: Callable[[], Mapping[str, float]]
    """By resource: seconds since the API server last said anything on its watch."""
    synced: Callable[[], bool]

    def ailments(self, now: float) -> tuple[str, ...]:
        """What is wrong, in words; empty when healthy. A leader's Lease proves that the API server answers."""
        if not self.leading():
            return ()
        found = [
            f"the watch of {resource} has been silent for {age:.0f} s"
            for resource, age in self.watch_ages().items()
            if age > WATCH_LIMIT_SECONDS
        ]
        since = self.last_turn() or self.led_since()
        if since is not None and now - since > TURN_LIMIT_SECONDS:
            found.append(f"leading, but no turn of the loop has ended for {now - since:.0f} s")
        return tuple(found)


async def serve_health(listen: str, *, vitals: Vitals, metrics: OperatorMetrics) -> web.AppRunner:
    """Serve until ``cleanup`` is called on the runner."""

    async def healthz(_request: web.Request) -> web.Response:
        now = asyncio.get_running_loop().time()
        ailments = vitals.ailments(now)
        last = vitals.last_turn()
        body = {
            "healthy": not ailments,
            "ailments": list(ailments),
            "leading": vitals.leading(),
            "secondsSinceTurn": None if last is None else round(now - last, 1),
            "secondsSinceWatch": {resource: round(age, 1) for resource, age in vitals.watch_ages().items()},
        }
        return web.json_response(body, status=503 if ailments else 200)

    async def readyz(_request: web.Request) -> web.Response:
        synced = vitals.synced()
        return web.json_response({"synced": synced, "leading": vitals.leading()}, status=200 if synced else 503)

    async def figures(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", figures)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, _, port = listen.rpartition(":")
    await web.TCPSite(runner, host, int(port)).start()
    return runner
