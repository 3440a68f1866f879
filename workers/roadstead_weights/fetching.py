"""Bringing a source into the store: whole, verified, resumable.

The order of checks: the source is allowed, its size is the expected one, the disk has room, and, before the rename,
the sha256 over every byte that was written. A wrong digest is final for that source (the part is thrown away), unless
the part was resumed from an earlier attempt: then it is fetched once more from its beginning, since the fault may lie
there.

A broken connection is retried here, from where it broke, with backoff; the part also survives the process.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Final

from roadstead_weights.digests import Digest
from roadstead_weights.errors import WeightsCode, WeightsError
from roadstead_weights.sources import FileSource, HttpSource, Source, SourcePolicy
from roadstead_weights.sources_file import open_local
from roadstead_weights.sources_http import HttpAnswer, HttpReader, RangeRefused
from roadstead_weights.store import Origin, Partial, WeightStore, disk_error
from roadstead_weights.transfers import PartFile, Transfer, in_thread

_WRITE_BYTES: Final = 1024 * 1024
_LONGEST_BACKOFF_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be fetched. ``digest`` and ``size`` are demanded where known."""

    source: Source
    digest: Digest | None
    size: int | None

    @property
    def partial_name(self) -> str:
        if self.digest is not None:
            return self.digest.hex
        return "source-" + hashlib.sha256(self.source.uri.encode()).hexdigest()


class Fetcher:
    """Fetches into one store. The caller runs at most one fetch per ``partial_name`` at a time."""

    def __init__(self, store: WeightStore, policy: SourcePolicy, http: HttpReader) -> None:
        self._store = store
        self._policy = policy
        self._http = http

    async def fetch(self, wanted: Wanted, transfer: Transfer) -> Digest:
        """Fetch and return the digest of what is now in the store. Raises ``WeightsError``."""
        partial = self._store.partial(wanted.partial_name)
        part: PartFile | None = None
        source = wanted.source
        try:
            part = PartFile(partial.path, transfer)
            if isinstance(source, FileSource):
                digest = await self._copy(source, wanted, part, transfer)
            else:
                digest = await self._download(source, wanted, partial, part, transfer)
            _check_digest(wanted, digest)
            part.close()
            await asyncio.to_thread(self._store.adopt, partial, digest)
        except WeightsError as error:
            if not error.retryable:
                partial.discard()
            raise
        except OSError as error:
            partial.discard()
            raise disk_error(error, what=source.label) from error
        finally:
            if part is not None:
                part.close()
        return digest

    async def _copy(self, source: FileSource, wanted: Wanted, part: PartFile, transfer: Transfer) -> Digest:
        """Copy a local file. Not resumed: reading it again to trust the part costs as much as copying it."""
        local = await asyncio.to_thread(open_local, source, self._policy.roots)
        with local.file:
            _check_size(wanted, local.size)
            self._store.check_room(local.size, what=source.label)
            part.restart()
            transfer.total = local.size
            await in_thread(lambda stop: part.append_file(local.file, stop))
            if not local.unchanged():
                raise WeightsError(
                    WeightsCode.SOURCE_UNAVAILABLE, f"{source.label} was changed while it was read.", source.label
                )
        return await asyncio.to_thread(part.digest)

    async def _download(
        self, source: HttpSource, wanted: Wanted, partial: Partial, part: PartFile, transfer: Transfer
    ) -> Digest:
        self._policy.allow_host(source)
        origin = partial.origin()
        if origin is None or origin.source != source.uri or not _may_resume(wanted, origin):
            origin = None
            part.restart()
        else:
            await in_thread(part.resume)
        download = _Download(
            store=self._store,
            http=self._http,
            source=source,
            wanted=wanted,
            partial=partial,
            part=part,
            transfer=transfer,
            origin=origin,
        )
        await download.run()
        digest = await asyncio.to_thread(part.digest)
        if download.resumed and wanted.digest not in {None, digest}:
            download.start_again()
            await download.run()
            digest = await asyncio.to_thread(part.digest)
        return digest


class _Download:
    """One file's way over HTTP, over as many connections as it takes."""

    def __init__(
        self,
        *,
        store: WeightStore,
        http: HttpReader,
        source: HttpSource,
        wanted: Wanted,
        partial: Partial,
        part: PartFile,
        transfer: Transfer,
        origin: Origin | None,
    ) -> None:
        self._store = store
        self._http = http
        self._source = source
        self._wanted = wanted
        self._partial = partial
        self._part = part
        self._transfer = transfer
        self._origin = origin
        self.resumed = part.size > 0

    def start_again(self) -> None:
        self._part.restart()
        self._origin = None
        self.resumed = False

    async def run(self) -> None:
        """Return when the part is as long as the file; raise when attempts in a row brought nothing."""
        limits = self._http.limits
        fruitless = 0
        while True:
            before = self._part.size
            try:
                await self._attempt()
            except WeightsError as error:
                fruitless = 0 if self._part.size >= before + _WRITE_BYTES else fruitless + 1
                if not error.retryable or fruitless >= limits.attempts:
                    raise
                if self._origin is None or not _may_resume(self._wanted, self._origin):
                    self.start_again()
                await asyncio.sleep(min(limits.backoff_seconds * 2 ** max(0, fruitless - 1), _LONGEST_BACKOFF_SECONDS))
            else:
                return

    async def _attempt(self) -> None:
        origin = self._origin
        if origin is not None and self._part.size >= origin.total:
            if self._part.size == origin.total:
                return
            self.start_again()
            origin = None
        begin = self._part.size
        validator = "" if origin is None else origin.validator
        try:
            async with self._http.open(self._source, begin=begin, validator=validator) as answer:
                self._take_origin(answer)
                self.resumed = self.resumed or self._part.size > 0
                await self._take_body(answer)
        except RangeRefused:
            self.start_again()
            raise

    def _take_origin(self, answer: HttpAnswer) -> None:
        """Decide whether the answer continues the part, and begin again where it does not."""
        about = answer.about
        _check_size(self._wanted, about.total)
        now = Origin(source=self._source.uri, validator=about.etag, total=about.total)
        if answer.offset != self._part.size or (self._part.size and now != self._origin):
            self.start_again()
            if answer.offset:
                raise WeightsError(
                    WeightsCode.SOURCE_UNAVAILABLE,
                    f"{self._source.label} changed while it was read.",
                    self._source.host,
                )
        self._store.check_room(about.total - self._part.size, what=self._source.label)
        self._transfer.total = about.total
        if now != self._origin:
            self._partial.remember(now)
            self._origin = now

    async def _take_body(self, answer: HttpAnswer) -> None:
        total = answer.about.total
        waiting = bytearray()
        try:
            async for chunk in answer.body.iter_chunked(_WRITE_BYTES):
                if self._part.size + len(waiting) + len(chunk) > total:
                    self.start_again()
                    waiting.clear()
                    raise WeightsError(
                        WeightsCode.SOURCE_UNAVAILABLE,
                        f"{self._source.label} sends more than the {total} bytes that it announced.",
                        self._source.host,
                    )
                waiting += chunk
                if len(waiting) >= _WRITE_BYTES:
                    await self._keep(waiting)
        finally:
            # What has come before a break is worth keeping: the next attempt goes on from here.
            await self._keep(waiting)
        if self._part.size < total:
            raise WeightsError(
                WeightsCode.SOURCE_UNAVAILABLE,
                f"{self._source.label} ended after {self._part.size} of {total} bytes; it will be tried again.",
                self._source.host,
            )

    async def _keep(self, waiting: bytearray) -> None:
        if waiting:
            chunk = bytes(waiting)
            waiting.clear()
            await in_thread(lambda _stop: self._part.append(chunk))


def _may_resume(wanted: Wanted, origin: Origin) -> bool:
    """A part may be continued if something proves in the end, or at once, that both halves are of one file."""
    return wanted.digest is not None or bool(origin.validator)


def _check_size(wanted: Wanted, size: int) -> None:
    if wanted.size is not None and size != wanted.size:
        raise WeightsError(
            WeightsCode.DIGEST_MISMATCH,
            f"{wanted.source.label} has {size} bytes, the artifact {wanted.size}: it was replaced or is another file.",
            wanted.source.label,
        )


def _check_digest(wanted: Wanted, digest: Digest) -> None:
    if wanted.digest is not None and digest != wanted.digest:
        raise WeightsError(
            WeightsCode.DIGEST_MISMATCH,
            f"{wanted.source.label} has the digest {digest}, wanted was {wanted.digest}. Correct the digest, or fetch "
            "the file again from where it was published.",
            wanted.source.label,
        )
