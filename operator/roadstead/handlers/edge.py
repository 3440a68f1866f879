"""Kopf as the edge: it logs in, watches, delivers, and ends in order. It decides nothing and writes nothing.

Two properties of Kopf to know when running it inside a process of ours:

- It cancels every task that was born in its loop after it started. Create the loop's, the Lease's and the health
  server's tasks first, then await :func:`serve`.
- It takes SIGINT and SIGTERM for itself, and :func:`serve` returns on either. That return is the process's signal to
  shut down; handlers of our own would be replaced.

Only ``on.event`` is used: it alone makes Kopf neither annotate nor patch what it watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import kopf

from roadstead.handlers.delivery import Deliver
from roadstead.handlers.models import watch_models
from roadstead.handlers.pools import watch_pools

Login = Callable[[], Awaitable[kopf.ConnectionInfo]]


async def serve(
    *,
    models: Deliver,
    pools: Deliver,
    login: Login,
    namespaces: Collection[str] = (),
    stop: asyncio.Event | None = None,
    ready: asyncio.Event | None = None,
) -> None:
    """Watch and deliver until ``stop`` is set or the process is asked to end.

    Our kinds must be known to the API server by then. Without ``namespaces`` all of them are watched.
    """
    await kopf.operator(
        registry=registry(models=models, pools=pools, login=login),
        settings=settings(),
        clusterwide=not namespaces,
        namespaces=namespaces,
        standalone=True,
        stop_flag=stop,
        ready_flag=ready,
    )


def registry(*, models: Deliver, pools: Deliver, login: Login) -> kopf.OperatorRegistry:
    """Our handlers, in a registry of their own: Kopf's default one belongs to the whole process."""
    own = kopf.OperatorRegistry()

    @kopf.on.login(registry=own)
    async def logged_in(**_: object) -> kopf.ConnectionInfo:
        return await login()

    watch_models(own, models)
    watch_pools(own, pools)
    return own


def settings() -> kopf.OperatorSettings:
    """Kopf's defaults are made for small operators; these are made for one that must not hang."""
    chosen = kopf.OperatorSettings()
    # Kopf takes its own finalizer off any object for which no handler of its needs one. So this must not be the
    # finalizer that we set, or each of ours would be gone a moment later.
    chosen.persistence.finalizer = "roadstead.dev/kopf"
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="kopf.roadstead.dev", v1=False)
    chosen.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="kopf.roadstead.dev", v1=False)
    chosen.networking.request_timeout = 15
    chosen.networking.connect_timeout = 5
    chosen.networking.error_backoffs = (1, 2, 5)
    # Watching for new kinds and namespaces would need rights on all CRDs and Namespaces, and find nothing for us.
    chosen.scanning.disabled = True
    chosen.watching.server_timeout = 300
    chosen.watching.connect_timeout = 5
    chosen.watching.reconnect_backoff = 1
    chosen.posting.enabled = False
    chosen.process.ultimate_exiting_timeout = 20
    return chosen
