"""The artifacts of this node: which are ready, which are on their way, which failed and why.

Nothing is fetched that was not asked for, and a failed fetch is tried again only when it is asked for again. Asking is
idempotent and may be done in a loop: a fetch that runs is left alone, and a failed one waits out a backoff here, so the
operator need not remember what it asked for. Tasks belong to this object; ``close`` cancels and awaits them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from roadstead_weights.digests import Digest
from roadstead_weights.errors import WeightsCode, WeightsError
from roadstead_weights.fetching import Fetcher, Wanted
from roadstead_weights.sources import Source, parse_source
from roadstead_weights.store import WeightStore
from roadstead_weights.transfers import Transfer
from roadstead_worker.contract import FetchRequest, Problem, WeightPhase, WeightState

log = structlog.get_logger(__name__)

_FETCHES_AT_ONCE: Final = 2
_FIRST_BACKOFF_SECONDS: Final = 2.0
_LONGEST_BACKOFF_SECONDS: Final = 300.0


@dataclass(slots=True)
class _Fetch:
    source: Source
    size: int
    transfer: Transfer
    task: asyncio.Task[None] | None = None
    problem: Problem | None = None
    failures: int = 0
    again_at: float = field(default=0.0)


class NodeWeights:
    """Artifacts in ``store``; ``on_change`` is called when one changes its phase."""

    def __init__(
        self,
        store: WeightStore,
        fetcher: Fetcher,
        *,
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._on_change = on_change
        self._clock = clock
        self._fetches: dict[Digest, _Fetch] = {}
        self._slots = asyncio.Semaphore(_FETCHES_AT_ONCE)

    def states(self) -> tuple[WeightState, ...]:
        """All artifacts, sorted by digest."""
        ready = self._store.blobs()
        digests = sorted(ready.keys() | self._fetches.keys())
        return tuple(self._state(digest, ready.get(digest)) for digest in digests)

    def ask(self, digest: Digest, request: FetchRequest) -> WeightState:
        """See that the artifact gets here; returns how far it is. Raises ``WeightsError`` for an impossible source."""
        ready = self._store.size_of(digest)
        if ready is None:
            self._ask(digest, request)
        return self._state(digest, ready)

    async def remove(self, digest: Digest) -> None:
        """Cancel the fetch, remove the blob and what there is of it (idempotent)."""
        fetch = self._fetches.pop(digest, None)
        if fetch is not None:
            await _cancel(fetch)
        await asyncio.to_thread(self._store.remove, digest)
        log.info("weights removed", digest=str(digest))
        self._on_change()

    async def close(self) -> None:
        """Stop all fetches; what they have stays for resuming."""
        for fetch in self._fetches.values():
            await _cancel(fetch)

    def _ask(self, digest: Digest, request: FetchRequest) -> None:
        source = parse_source(request.source)
        fetch = self._fetches.get(digest)
        if fetch is not None and fetch.task is not None and not fetch.task.done():
            return
        if fetch is not None and fetch.source == source and self._clock() < fetch.again_at:
            return
        if fetch is None or fetch.source != source:
            fetch = self._fetches[digest] = _Fetch(source, request.bytes, Transfer(request.bytes, clock=self._clock))
        fetch.size = request.bytes
        fetch.problem = None
        fetch.transfer.restart()
        wanted = Wanted(source=source, digest=digest, size=request.bytes)
        fetch.task = asyncio.create_task(self._run(wanted, fetch), name=f"fetch {digest}")
        log.info("fetch begins", digest=str(digest), source=source.label, bytes=request.bytes)
        self._on_change()

    async def _run(self, wanted: Wanted, fetch: _Fetch) -> None:
        try:
            async with self._slots:
                await self._fetcher.fetch(wanted, fetch.transfer)
        except WeightsError as error:
            self._fail(wanted, fetch, Problem(code=error.code, message=error.message, field=error.field))
        except Exception:
            # A defect, not a fact about the source; shown like one so that the model does not hang without a word.
            log.exception("fetch broke", digest=str(wanted.digest))
            problem = Problem(code=WeightsCode.SOURCE_UNAVAILABLE, message="The agent failed; its log says why.")
            self._fail(wanted, fetch, problem)
        else:
            if wanted.digest is not None and self._fetches.get(wanted.digest) is fetch:
                del self._fetches[wanted.digest]
            log.info("weights ready", digest=str(wanted.digest), bytes=fetch.size)
        self._on_change()

    def _fail(self, wanted: Wanted, fetch: _Fetch, problem: Problem) -> None:
        pause = min(_FIRST_BACKOFF_SECONDS * 2**fetch.failures, _LONGEST_BACKOFF_SECONDS)
        fetch.failures = min(fetch.failures + 1, 30)
        fetch.again_at = self._clock() + pause
        fetch.problem = problem
        log.warning("fetch failed", digest=str(wanted.digest), code=problem.code, problem=problem.message, pause=pause)

    def _state(self, digest: Digest, ready: int | None) -> WeightState:
        fetch = self._fetches.get(digest)
        if ready is not None or fetch is None:
            size = ready or 0
            return WeightState(digest=str(digest), phase=WeightPhase.READY, bytes_total=size, bytes_done=size)
        return WeightState(
            digest=str(digest),
            phase=WeightPhase.FETCHING if fetch.problem is None else WeightPhase.FAILED,
            bytes_total=fetch.size,
            bytes_done=min(fetch.transfer.done, fetch.size),
            bytes_per_second=0.0 if fetch.problem else float(round(fetch.transfer.bytes_per_second)),
            problem=fetch.problem,
        )


async def _cancel(fetch: _Fetch) -> None:
    if fetch.task is not None:
        fetch.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await fetch.task
