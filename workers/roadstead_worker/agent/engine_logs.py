"""What engines said, read from the node's store: ``logs/<slot>.<index>.log`` and, before it, ``….log.1``.

A replica appends to the first and, when it is full, moves it to the second (``replica/engine_log.py``). A reader
therefore holds the file it reads, not its name: when the name has moved on to another file, it reads its own to the
end and goes on with the new one. Only two moves within one look (a quarter of a second, 16 MiB) could pass it by.

Logs outlive their slots, because they say why a slot ended. ``prune`` removes those of slots without a lease: what
was not written to for a week, and the oldest beyond 256 MiB.

Bounded: at most ``STREAMS_LIMIT`` readers at a time, each with one block in memory; a slow caller slows its own reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from roadstead_worker.agent.door import DoorProblem, wire_response
from roadstead_worker.contract import LOG_LINES_LIMIT, EngineLogFile, EngineLogFiles
from roadstead_worker.lease_file import lease_path

log = structlog.get_logger(__name__)

LOGS_FOLDER: Final = "logs"
STREAMS_LIMIT: Final = 64
KEPT_SECONDS: Final = 7 * 24 * 3600.0
KEPT_BYTES: Final = 256 * 1024 * 1024
PRUNE_SECONDS: Final = 3600.0
_BLOCK_BYTES: Final = 64 * 1024
_LOOK_SECONDS: Final = 0.25
_OPEN_ATTEMPTS: Final = 4
_DEFAULT_LINES: Final = 100
_FILE_NAME: Final = re.compile(r"(?P<slot>.+)\.(?P<index>\d{1,4})\.log(?:\.1)?")

Held = frozenset[tuple[str, int]]
"""Slot and index of each lease."""


def log_path(store: Path, slot: str, index: int) -> Path:
    """Where the engine of a device group writes; ``ValueError`` for a slot or index that could leave the folder."""
    return store / LOGS_FOLDER / lease_path(store, slot, index).with_suffix(".log").name


class EngineLogReader:
    """One log from its last ``lines`` lines on, over its rotations. Blocks on the disk: call it in a thread."""

    def __init__(self, path: Path, *, lines: int) -> None:
        self._path = path
        self._open: deque[int] = deque()
        self._begin(lines)

    @property
    def exists(self) -> bool:
        """Whether there was a file when it was looked for last."""
        return bool(self._open)

    def read(self) -> bytes:
        """The next block; empty when there is nothing more for now."""
        if not self._open:
            self._take(self._path)
        while self._open:
            if block := os.read(self._open[0], _BLOCK_BYTES):
                return block
            if len(self._open) == 1 and not self._moved_on():
                return b""
            # What was written between the last read and the move is still to come.
            if block := os.read(self._open[0], _BLOCK_BYTES):
                return block
            os.close(self._open.popleft())
        return b""

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())

    def _begin(self, lines: int) -> None:
        for _ in range(_OPEN_ATTEMPTS):
            current, before = _opened(self._path), _opened(self._path.with_name(self._path.name + ".1"))
            if current is None or before is None or not os.path.sameopenfile(current, before):
                break
            os.close(current)  # moved between the two: look again
            os.close(before)
        else:
            return
        if current is not None:
            offset, found = _last_lines(current, lines)
            os.lseek(current, offset, os.SEEK_SET)
            lines -= found
        if before is not None and lines > 0:
            os.lseek(before, _last_lines(before, lines)[0], os.SEEK_SET)
            self._open.append(before)
        elif before is not None:
            os.close(before)
        if current is not None:
            self._open.append(current)

    def _moved_on(self) -> bool:
        """Whether the name now means another file; that one is then opened behind the one that is read."""
        try:
            named = self._path.stat(follow_symlinks=False)
        except OSError:
            return False
        own = os.fstat(self._open[0])
        return (named.st_dev, named.st_ino) != (own.st_dev, own.st_ino) and self._take(self._path)

    def _take(self, path: Path) -> bool:
        descriptor = _opened(path)
        if descriptor is not None:
            self._open.append(descriptor)
        return descriptor is not None


@dataclass(slots=True, kw_only=True)
class EngineLogs:
    """The logs of one node: served to the operator, and kept from growing without end."""

    store: Path
    held: Callable[[], Held]
    _streams: int = field(default=0, init=False)
    _closing: bool = field(default=False, init=False)

    async def list_logs(self, _request: web.Request) -> web.Response:
        """``GET /logs``."""
        files = await asyncio.to_thread(listed, self.store / LOGS_FOLDER)
        return wire_response(EngineLogFiles(files=files))

    async def read_log(self, request: web.Request) -> web.StreamResponse:
        """``GET /logs/{slot}?index=&lines=&follow=``; with ``follow`` a log that does not exist yet is waited for."""
        index = _whole(request, "index", default=0, most=9_999)
        lines = _whole(request, "lines", default=_DEFAULT_LINES, most=LOG_LINES_LIMIT)
        follow = _flag(request, "follow")
        try:
            path = log_path(self.store, request.match_info["slot"], index)
        except ValueError as error:
            raise DoorProblem(status=400, code="InvalidRequest", message=str(error), field="slot") from None
        if self._streams >= STREAMS_LIMIT:
            raise DoorProblem(
                status=429, code="TooManyStreams", message=f"{STREAMS_LIMIT} logs are being read: try again later."
            )
        self._streams += 1
        reader = await asyncio.to_thread(EngineLogReader, path, lines=lines)
        try:
            if not reader.exists and not follow:
                raise DoorProblem(
                    status=404, code="LogNotFound", message=f"No engine has written {path.name}.", field="slot"
                )
            return await self._send(request, reader, follow=follow)
        finally:
            reader.close()
            self._streams -= 1

    async def close(self, _application: web.Application) -> None:
        """End the readers that follow: a stopping door does not wait for them."""
        self._closing = True

    async def prune_for_ever(self) -> None:
        """Prune now and every hour."""
        while True:
            try:
                removed = await asyncio.to_thread(
                    prune, self.store / LOGS_FOLDER, held=self.held(), now=time.time(), kept_bytes=KEPT_BYTES
                )
            except OSError as error:
                log.warning("engine logs not pruned", reason=error.strerror)
            else:
                if removed:
                    log.info("engine logs pruned", files=removed)
            await asyncio.sleep(PRUNE_SECONDS)

    async def _send(self, request: web.Request, reader: EngineLogReader, *, follow: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):  # the caller has gone
            while not self._closing and not _gone(request):
                if block := await asyncio.to_thread(reader.read):
                    await response.write(block)
                elif follow:
                    await asyncio.sleep(_LOOK_SECONDS)
                else:
                    break
            await response.write_eof()
        return response


def listed(folder: Path) -> tuple[EngineLogFile, ...]:
    """Every log with the bytes of both its files."""
    return tuple(
        EngineLogFile(
            slot=slot,
            index=index,
            bytes=sum(stat.st_size for _, stat in files),
            modified=max(stat.st_mtime for _, stat in files),
        )
        for (slot, index), files in sorted(_by_group(folder).items())
    )


def prune(folder: Path, *, held: Held, now: float, kept_bytes: int) -> int:
    """Remove logs of slots without a lease: what is older than a week, then the oldest beyond ``kept_bytes``.

    How many files went. A log that is written to again is begun anew by its writer, which opens it for every write.
    """
    groups = _by_group(folder)
    total = sum(stat.st_size for files in groups.values() for _, stat in files)
    removed = 0
    free = [files for group, files in groups.items() if group not in held]
    for files in sorted(free, key=_written):
        if _written(files) >= now - KEPT_SECONDS and total <= kept_bytes:
            break
        for path, stat in files:
            path.unlink(missing_ok=True)
            total -= stat.st_size
            removed += 1
    return removed


def _written(files: list[tuple[Path, os.stat_result]]) -> float:
    return max(stat.st_mtime for _, stat in files)


def _by_group(folder: Path) -> dict[tuple[str, int], list[tuple[Path, os.stat_result]]]:
    groups: dict[tuple[str, int], list[tuple[Path, os.stat_result]]] = {}
    for path in folder.glob("*.log*"):
        match = _FILE_NAME.fullmatch(path.name)
        with contextlib.suppress(FileNotFoundError):  # moved since it was listed
            if match is not None:
                group = (match["slot"], int(match["index"]))
                groups.setdefault(group, []).append((path, path.stat(follow_symlinks=False)))
    return groups


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None


def _last_lines(descriptor: int, lines: int) -> tuple[int, int]:
    """Offset at which the last ``lines`` lines begin, and how many they are: fewer when that is the whole file."""
    end = os.fstat(descriptor).st_size
    if not lines:
        return end, 0
    position, found = end, 0
    while position > 0:
        begin = max(0, position - _BLOCK_BYTES)
        block = os.pread(descriptor, position - begin, begin)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            if begin + at == end - 1:
                continue  # ends the last line, and begins none
            found += 1
            if found == lines:
                return begin + at + 1, lines
        position = begin
    return 0, found + (1 if end else 0)


def _gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _whole(request: web.Request, name: str, *, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) > most:
        raise DoorProblem(
            status=400, code="InvalidRequest", message=f"{name} is a whole number from 0 to {most}.", field=name
        )
    return int(text)


def _flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "false")
    if text not in ("true", "false"):
        raise DoorProblem(status=400, code="InvalidRequest", message=f"{name} is true or false.", field=name)
    return text == "true"
