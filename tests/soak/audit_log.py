"""An API server's audit log, read as it grows and on over the files that it is cut into."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


class AuditLog:
    """The events of one log, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def since_last(self) -> Iterator[dict[str, Any]]:
        """What was written since the last time."""
        while True:
            log = self._file = self._file or self._path.open("rb")
            # Looked up before the last read: a file that was renamed by then gets no more lines.
            renamed = os.fstat(log.fileno()).st_ino != self._path.stat().st_ino
            for line in log:
                if not line.endswith(b"\n"):
                    log.seek(-len(line), os.SEEK_CUR)  # the rest of it is being written
                    return
                yield json.loads(line)
            if not renamed:
                return
            log.close()
            self._file = None
