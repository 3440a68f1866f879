"""What is behind a source *now*: its digest, its size, its header's facts.

* ``file://``: hashed on this node, once per state of the file (device, inode, size, times).
* ``http(s)://`` with a digest: the header by ranges, nothing more. The digest is a claim that the fetch will check; if
  the store has that blob already, no server is asked at all.
* ``http(s)://`` without a digest: there is no other way to learn it than to download, so the file goes into the store.

The header is read before anything long begins, so a file that cannot be served is refused within a second. Long work
goes on in a task of this object while callers come and ask again; the same question never runs twice at once, and a
failure that may pass is remembered for a moment, so that asking in a loop does not hammer a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from roadstead_weights.digests import Digest, parse_digest
from roadstead_weights.errors import WeightsCode, WeightsError
from roadstead_weights.facts import ModelFacts
from roadstead_weights.fetching import Fetcher, Wanted
from roadstead_weights.gguf import NeedMoreBytes, facts_from_prefix, read_facts
from roadstead_weights.sources import FileSource, HttpSource, SourcePolicy, parse_source
from roadstead_weights.sources_file import LocalFile, open_local
from roadstead_weights.sources_http import HttpFile, HttpReader
from roadstead_weights.store import WeightStore, write_atomically
from roadstead_weights.transfers import Transfer, hash_file, in_thread
from roadstead_worker.contract import Progress, Resolution, ResolveRequest, Told

log = structlog.get_logger(__name__)

_ANSWER_SECONDS: Final = 1.0
"""How long a caller waits before it is told the progress instead."""
_FAILURE_SECONDS: Final = 2.0
_PROBE_SECONDS: Final = 60.0
"""How long an answer of a server is taken for its present state."""
_PREFIX_BYTES: Final = 1024 * 1024
_HASHES_AT_ONCE: Final = 2
_QUESTIONS_LIMIT: Final = 1_000
_CLOCK_GRAIN_NS: Final = 50_000_000
"""File times are no finer than a kernel tick: a file this young could change again without a new time."""

Question = tuple[str, str | None]


class Remembered(Told):
    """A resolution and the identity of the source that it was true of."""

    identity: str
    resolution: Resolution


@dataclass(slots=True)
class _Work:
    transfer: Transfer
    task: asyncio.Task[Resolution]


class Resolver:
    """Answers questions about sources; remembers answers in ``folder``."""

    def __init__(
        self,
        store: WeightStore,
        policy: SourcePolicy,
        http: HttpReader,
        fetcher: Fetcher,
        *,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._policy = policy
        self._http = http
        self._fetcher = fetcher
        self._folder = folder
        self._clock = clock
        self._work: dict[Question, _Work] = {}
        self._failed: dict[Question, tuple[float, WeightsError]] = {}
        self._probed: dict[Question, tuple[float, Remembered]] = {}
        self._hashing = asyncio.Semaphore(_HASHES_AT_ONCE)
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)

    async def resolve(self, request: ResolveRequest) -> Resolution | Progress:
        """The answer, or the progress towards it if it takes longer than a second. Raises ``WeightsError``."""
        question = (request.source, request.digest)
        failed = self._failed.get(question)
        if failed is not None and self._clock() < failed[0]:
            raise failed[1]
        work = self._work.get(question)
        if work is None:
            self._forget_unclaimed()
            transfer = Transfer(clock=self._clock)
            task = asyncio.create_task(self._answer(request, transfer), name=f"resolve {request.digest}")
            work = self._work[question] = _Work(transfer, task)
        # `wait` neither cancels the work with its caller nor raises what the work raised.
        await asyncio.wait({work.task}, timeout=_ANSWER_SECONDS)
        if not work.task.done():
            transfer = work.transfer
            return Progress(
                bytes_total=transfer.total,
                bytes_done=min(transfer.done, transfer.total),
                bytes_per_second=float(round(transfer.bytes_per_second)),
            )
        if self._work.get(question) is work:
            del self._work[question]
        try:
            return work.task.result()
        except WeightsError as error:
            if error.retryable:
                self._failed[question] = (self._clock() + _FAILURE_SECONDS, error)
            raise

    async def close(self) -> None:
        """Cancel and await all work."""
        for work in self._work.values():
            work.task.cancel()
        for work in self._work.values():
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await work.task

    async def _answer(self, request: ResolveRequest, transfer: Transfer) -> Resolution:
        source = parse_source(request.source)
        digest = None if request.digest is None else parse_digest(request.digest)
        if isinstance(source, FileSource):
            return await self._answer_file(source, digest, transfer)
        self._policy.allow_host(source)
        if digest is not None and (size := self._store.size_of(digest)) is not None:
            return await self._answer_blob(source.uri, digest, size)
        return await self._answer_http(source, digest, transfer)

    async def _answer_file(self, source: FileSource, digest: Digest | None, transfer: Transfer) -> Resolution:
        try:
            local = await asyncio.to_thread(open_local, source, self._policy.roots)
        except WeightsError as error:
            # The original may go once its blob is here: a release that is kept must stay servable.
            size = None if digest is None else self._store.size_of(digest)
            if error.code is not WeightsCode.SOURCE_NOT_FOUND or digest is None or size is None:
                raise
            return await self._answer_blob(source.uri, digest, size)
        with local.file:
            remembered = self._remembered(source.uri, local.identity)
            if remembered is None:
                remembered = await self._hash(source, local, transfer)
        if digest is not None and remembered.digest != str(digest):
            raise WeightsError(
                WeightsCode.DIGEST_MISMATCH,
                f"{source.label} has the digest {remembered.digest}, wanted was {digest}. Correct one of the two.",
                source.label,
            )
        return remembered

    async def _hash(self, source: FileSource, local: LocalFile, transfer: Transfer) -> Resolution:
        transfer.total = local.size
        facts = await asyncio.to_thread(read_facts, local.file, total=local.size, name=source.label)
        if 0 <= time.time_ns() - local.modified_ns < _CLOCK_GRAIN_NS:
            await asyncio.sleep(_CLOCK_GRAIN_NS / 1e9)
        async with self._hashing:
            digest = await in_thread(lambda stop: hash_file(local.file, transfer, stop))
        if not local.unchanged():
            raise WeightsError(
                WeightsCode.SOURCE_UNAVAILABLE,
                f"{source.label} was changed while it was read; it will be tried again.",
                source.label,
            )
        resolution = Resolution(source=source.uri, digest=str(digest), bytes=local.size, facts=facts)
        await asyncio.to_thread(self._remember, local.identity, resolution)
        log.info("source resolved", source=source.label, digest=str(digest), bytes=local.size)
        return resolution

    async def _answer_blob(self, uri: str, digest: Digest, size: int) -> Resolution:
        facts = await asyncio.to_thread(self._blob_facts, digest, size)
        return Resolution(source=uri, digest=str(digest), bytes=size, facts=facts)

    def _blob_facts(self, digest: Digest, size: int) -> ModelFacts:
        with self._store.blob_path(digest).open("rb") as file:
            return read_facts(file, total=size, name=str(digest))

    async def _answer_http(self, source: HttpSource, digest: Digest | None, transfer: Transfer) -> Resolution:
        question = (source.uri, None if digest is None else str(digest))
        probed = self._probed.get(question)
        if probed is not None and self._clock() - probed[0] < _PROBE_SECONDS:
            return probed[1].resolution
        about, prefix = await self._http.prefix(source, 24 if probed is not None else _PREFIX_BYTES)
        known = probed[1].resolution if probed is not None and probed[1].identity == about.identity else None
        if known is None and digest is None:
            known = self._remembered(source.uri, about.identity)
        if known is None:
            known = await self._learn_http(source, digest, about, prefix, transfer)
        self._probed[question] = (self._clock(), Remembered(identity=about.identity, resolution=known))
        return known

    async def _learn_http(
        self, source: HttpSource, digest: Digest | None, about: HttpFile, prefix: bytes, transfer: Transfer
    ) -> Resolution:
        transfer.total = about.total
        facts = await self._header_facts(source, about, prefix)
        if digest is not None:
            return Resolution(source=source.uri, digest=str(digest), bytes=about.total, facts=facts)
        learned = await self._fetcher.fetch(Wanted(source=source, digest=None, size=about.total), transfer)
        resolution = await self._answer_blob(source.uri, learned, about.total)
        await asyncio.to_thread(self._remember, about.identity, resolution)
        log.info("source resolved", source=source.label, digest=str(learned), bytes=about.total)
        return resolution

    async def _header_facts(self, source: HttpSource, about: HttpFile, prefix: bytes) -> ModelFacts:
        while True:
            try:
                return await asyncio.to_thread(facts_from_prefix, prefix, total=about.total, name=source.label)
            except NeedMoreBytes as more:
                wanted = min(about.total, max(more.size, 2 * len(prefix), _PREFIX_BYTES))
            now, prefix = await self._http.prefix(source, wanted, known=prefix)
            if now != about:
                raise WeightsError(
                    WeightsCode.SOURCE_UNAVAILABLE,
                    f"{source.label} changed while it was read; it will be tried again.",
                    source.host,
                )

    def _remembered(self, uri: str, identity: str) -> Resolution | None:
        try:
            remembered = Remembered.model_validate_json(self._note(uri).read_bytes())
        except (OSError, ValidationError):
            return None
        same = remembered.identity == identity and remembered.resolution.source == uri
        return remembered.resolution if same else None

    def _remember(self, identity: str, resolution: Resolution) -> None:
        """Losing this costs a hash, so a full disk is only logged."""
        content = Remembered(identity=identity, resolution=resolution).model_dump_json().encode()
        try:
            write_atomically(self._note(resolution.source), content)
        except OSError as error:
            log.warning("a resolution cannot be kept", error=str(error))

    def _note(self, uri: str) -> Path:
        return self._folder / f"{hashlib.sha256(uri.encode()).hexdigest()}.json"

    def _forget_unclaimed(self) -> None:
        """Answers that nobody came back for, and failures that are over, must not pile up."""
        now = self._clock()
        self._failed = {question: failed for question, failed in self._failed.items() if failed[0] > now}
        for question in list(self._probed)[:-_QUESTIONS_LIMIT]:
            del self._probed[question]
        if len(self._work) >= _QUESTIONS_LIMIT:
            for question, work in list(self._work.items()):
                if work.task.done():
                    work.task.exception()
                    del self._work[question]
        if len(self._work) >= _QUESTIONS_LIMIT:
            raise WeightsError(
                WeightsCode.SOURCE_UNAVAILABLE, "This node resolves too many sources at once; ask again.", "source"
            )
