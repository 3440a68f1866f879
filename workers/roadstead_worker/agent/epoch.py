"""The fence against a leader that has been replaced and does not know it yet.

Every mutating request carries the leader's epoch. A door keeps the highest it has seen in a file and refuses a lower
one, so a paused operator that wakes up with an old Lease cannot undo what its successor did. The file is written and
fsynced *before* the request is let through: a door that is killed and restarted never forgets an epoch it has acted on.

Concurrency: ``admit`` runs on the event loop without awaiting, so two requests cannot interleave inside it. One process
owns one file.
"""

from __future__ import annotations

import os
from pathlib import Path

from aiohttp import web

from roadstead_worker.agent.door import DoorProblem
from roadstead_worker.contract import EPOCH_HEADER

_LARGEST = 2**63 - 1
"""Epochs are kept as 64-bit integers by everybody who keeps them."""


class EpochFile:
    """The highest epoch seen by this door, kept in ``path`` (a decimal number; absent means 0)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._current = self._read()

    @property
    def current(self) -> int:
        return self._current

    def admit(self, epoch: int) -> None:
        """Let a request of this epoch pass, remembering it; ``StaleEpoch`` (409) if a newer was seen."""
        if epoch < self._current:
            raise DoorProblem(
                status=409,
                code="StaleEpoch",
                message=f"Epoch {epoch} is older than {self._current}, which this door has seen: another leads.",
                field=EPOCH_HEADER,
                epoch=self._current,
            )
        if epoch > self._current:
            self._write(epoch)
            self._current = epoch

    def admit_request(self, request: web.Request) -> int:
        """The request's epoch, admitted; ``EpochMissing`` (400) when the header is absent or no whole number."""
        text = request.headers.get(EPOCH_HEADER, "")
        if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LARGEST):
            raise DoorProblem(
                status=400,
                code="EpochMissing",
                message=f"A request that changes something carries the leader's epoch in {EPOCH_HEADER}.",
                field=EPOCH_HEADER,
            )
        self.admit(int(text))
        return int(text)

    def _read(self) -> int:
        """Raises ``ValueError`` on a damaged file: starting at 0 would let an old leader in."""
        try:
            text = self._path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return 0
        if not text.isdigit():
            raise ValueError(f"{self._path} should hold the highest epoch seen, and holds {text[:40]!r}.")
        return int(text)

    def _write(self, epoch: int) -> None:
        temporary = self._path.with_name(self._path.name + ".new")
        with temporary.open("w", encoding="ascii") as file:
            file.write(f"{epoch}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
