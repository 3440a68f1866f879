"""What engines showed when they ran, kept with the node: planning takes its figures from here, not from the ledger.

One file per content (``measurements/<content>.json``), the latest word wins. Bounded: the oldest are forgotten.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from roadstead_weights.store import write_atomically
from roadstead_worker.agent.door import DoorProblem
from roadstead_worker.contract import Measurement

log = structlog.get_logger(__name__)

_CONTENT: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_:-]|\.(?!\.)){0,127}", re.ASCII)
_KEPT: Final = 1_000


class MeasurementStore:
    """The measurements in ``folder``, all in memory as well."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._known: dict[str, Measurement] = {}
        for path in sorted(folder.glob("*.json"), key=lambda each: each.stat().st_mtime_ns):
            try:
                measurement = Measurement.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                log.warning("a measurement cannot be read", path=str(path))
            else:
                self._known[measurement.content] = measurement

    def all(self) -> tuple[Measurement, ...]:
        """Sorted by content."""
        return tuple(measurement for _, measurement in sorted(self._known.items()))

    def put(self, measurement: Measurement) -> None:
        """Keep it, on disk before this returns; ``DoorProblem`` 400 if its content could not name a file."""
        if not _CONTENT.fullmatch(measurement.content):
            raise DoorProblem(
                status=400, code="InvalidRequest", message="This is no hash of a content.", field="content"
            )
        write_atomically(self._path(measurement.content), measurement.model_dump_json().encode())
        self._known.pop(measurement.content, None)
        self._known[measurement.content] = measurement
        while len(self._known) > _KEPT:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._path(oldest).unlink(missing_ok=True)

    def _path(self, content: str) -> Path:
        return self._folder / f"{content}.json"
