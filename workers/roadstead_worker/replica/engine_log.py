"""What an engine writes: the last lines in memory (they say why it ended), all of it in a file of bounded size."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

LOG_BYTES: Final = 8 * 1024 * 1024
"""Size at which a log file is moved to ``<name>.1`` (replacing the one before):

at most twice this on disk per replica.
"""
LAST_LINES: Final = 14
_LONGEST_LINE: Final = 2_000


class EngineLog(asyncio.Protocol):
    """Reads the engine's output pipe on the replica's event loop.

    ``on_line`` is called for each line, before it is counted among the last ones. Never raises for a full disk: an
    engine must not stop because nobody can write down what it says.
    """

    def __init__(self, path: Path, on_line: Callable[[str], None]) -> None:
        self._path = path
        self._on_line = on_line
        self._rest = b""
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self.ended = asyncio.get_running_loop().create_future()

    @property
    def last_lines(self) -> str:
        return "\n".join(self._last)

    def data_received(self, data: bytes) -> None:
        self._write(data)
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-_LONGEST_LINE:]
        for line in lines:
            self._take(line)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._rest:
            self._take(self._rest)
        if not self.ended.done():
            self.ended.set_result(None)

    def _take(self, raw: bytes) -> None:
        line = raw.decode(errors="replace").rstrip()[:_LONGEST_LINE]
        if line:
            self._on_line(line)
            self._last.append(line)

    def _write(self, data: bytes) -> None:
        try:
            if self._path.exists() and self._path.stat().st_size + len(data) > LOG_BYTES:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            with self._path.open("ab") as file:
                file.write(data)
        except OSError:
            return
