"""Kopf as the edge: it logs in, watches, delivers, and ends in order. It decides nothing and writes nothing.

It runs in a thread and an event loop of its own. When Kopf ends it waits five seconds for whatever else lives in its
loop and then cancels it: in ours, that would be the turn under way and the task that renews the Lease. Events are
handed over to the loop that called :func:`serve`, in their order.

:func:`serve` returns on SIGINT and SIGTERM. That return is the process's signal to shut down; a second one changes
nothing.

Only ``on.event`` is used: it alone makes Kopf neither annotate nor patch what it watches.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from itertools import chain, repeat
from typing import Any, Final

import kopf

from roadstead.handlers.delivery import Deliver
from roadstead.handlers.models import watch_models
from roadstead.handlers.pools import watch_pools

_FIRST_PAUSES_SECONDS: Final = (1.0, 2.0, 5.0)
_PAUSE_SECONDS: Final = 10.0

Login = Callable[[], Awaitable[kopf.ConnectionInfo]]


async def serve(
    *,
    models: Deliver,
    pools: Deliver,
    login: Login,
    namespaces: Collection[str] = (),
    silence_seconds: float = 75.0,
    stop: asyncio.Event | None = None,
    ready: asyncio.Event | None = None,
) -> None:
    """Watch and deliver until ``stop`` is set or the process is asked to end; to be called from the main thread.

    Our kinds must be known to the API server by then. Without ``namespaces`` all of them are watched. A watch that says
    nothing for ``silence_seconds`` is opened anew. ``login`` is awaited in Kopf's own loop.
    """
    loop = asyncio.get_running_loop()
    asked = stop or asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    ours = registry(models=_handed_over(models, loop), pools=_handed_over(pools, loop), login=login)
    end: Future[Callable[[], object]] = Future()
    watching: Future[None] = Future()
    if ready is not None:
        watching.add_done_callback(lambda _: loop.call_soon_threadsafe(ready.set))

    async def operate() -> None:
        its_loop, ending = asyncio.get_running_loop(), asyncio.Event()
        end.set_result(lambda: its_loop.call_soon_threadsafe(ending.set))
        await kopf.operator(
            registry=ours,
            settings=settings(silence_seconds=silence_seconds),
            clusterwide=not namespaces,
            namespaces=namespaces,
            standalone=True,
            stop_flag=ending,
            ready_flag=watching,
        )

    kopf_ends = asyncio.ensure_future(asyncio.to_thread(lambda: asyncio.run(operate())))
    waiting = asyncio.create_task(asked.wait(), name="asked to end")
    try:
        await asyncio.wait((kopf_ends, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        with suppress(RuntimeError):  # its loop is closed: it ended by itself
            (await asyncio.wrap_future(end))()
        await kopf_ends


def _handed_over(deliver: Deliver, loop: asyncio.AbstractEventLoop) -> Deliver:
    def hand_over(event_type: str | None, obj: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(deliver, event_type, obj)

    return hand_over


def registry(*, models: Deliver, pools: Deliver, login: Login) -> kopf.OperatorRegistry:
    """Our handlers, in a registry of their own: Kopf's default one belongs to the whole process."""
    own = kopf.OperatorRegistry()

    @kopf.on.login(registry=own)
    async def logged_in(**_: object) -> kopf.ConnectionInfo:
        return await login()

    watch_models(own, models)
    watch_pools(own, pools)
    return own


class _Endlessly(Iterable[float]):
    """Pauses between Kopf's tries, in seconds, without an end.

    After the last of them Kopf raises, which ends it and this process: an API server that is away for a minute would
    end every operator, and a kubelet would start them again later and later.
    """

    def __iter__(self) -> Iterator[float]:
        return chain(_FIRST_PAUSES_SECONDS, repeat(_PAUSE_SECONDS))


def settings(*, silence_seconds: float = 75.0) -> kopf.OperatorSettings:
    """Kopf's defaults are made for small operators; these are made for one that must not hang."""
    chosen = kopf.OperatorSettings()
    # Kopf takes its own finalizer off any object for which no handler of its needs one. So this must not be the
    # finalizer that we set, or each of ours would be gone a moment later.
    chosen.persistence.finalizer = "roadstead.dev/kopf"
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="kopf.roadstead.dev", v1=False)
    chosen.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="kopf.roadstead.dev", v1=False)
    chosen.networking.request_timeout = 15
    chosen.networking.connect_timeout = 5
    chosen.networking.error_backoffs = _Endlessly()
    chosen.networking.enforce_retry_after = True
    # Watching for new kinds and namespaces would need rights on all CRDs and Namespaces, and find nothing for us.
    chosen.scanning.disabled = True
    chosen.watching.server_timeout = 300
    chosen.watching.connect_timeout = 5
    chosen.watching.reconnect_backoff = 1
    chosen.watching.inactivity_timeout = silence_seconds
    chosen.posting.enabled = False
    chosen.process.ultimate_exiting_timeout = 20
    return chosen
