"""Parts of an embedded fleet that are away: ended and kept from coming back, or held still with their doors open."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator

from roadstead.embedded.process_table import ProcessRow, all_rows, session_members
from roadstead.embedded.state import read_state
from tests.fixtures.embedded_fleet import EmbeddedFleet
from tests.fixtures.patience import found

_READY_SECONDS = 120.0


@contextlib.asynccontextmanager
async def ended(fleet: EmbeddedFleet, *names: str) -> AsyncIterator[None]:
    """Killed without a word, with all that came of them, and not started again before the block ends."""
    held = [fleet.home.held / name for name in names]
    fleet.home.held.mkdir(exist_ok=True)
    for file in held:
        file.touch()
    before = {name: fleet.process(name) for name in names}
    try:
        for name in names:
            _send(fleet, name, signal.SIGKILL)
        yield
    finally:
        for file in held:
            file.unlink()
    await _back(fleet, before)


@contextlib.asynccontextmanager
async def held_still(fleet: EmbeddedFleet, *names: str) -> AsyncIterator[None]:
    """Stopped where they stand: connections are taken by the kernel, and nothing is answered."""
    for name in names:
        _send(fleet, name, signal.SIGSTOP)
    try:
        yield
    finally:
        for name in names:
            _send(fleet, name, signal.SIGCONT)


async def restarted(fleet: EmbeddedFleet, name: str) -> float:
    """Tell it to end, as a rollout does; seconds until the next one is ready."""
    before, began = {name: fleet.process(name)}, time.monotonic()
    _send(fleet, name, signal.SIGTERM)
    await _back(fleet, before)
    return time.monotonic() - began


async def _back(fleet: EmbeddedFleet, before: dict[str, int]) -> None:
    async def others() -> bool | None:
        return all(fleet.process(name) not in (0, pid) for name, pid in before.items()) or None

    await found(others, f"{', '.join(before)} is back", seconds=_READY_SECONDS)


def _send(fleet: EmbeddedFleet, name: str, number: signal.Signals) -> None:
    for row in _processes(fleet, name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(row.pid, number)


def _processes(fleet: EmbeddedFleet, name: str) -> list[ProcessRow]:
    state = read_state(fleet.home.state_file)
    report = state.process(name) if state is not None else None
    assert report is not None, f"the fleet has no process {name}"
    assert report.identity is not None, f"{name} was never started"
    return session_members(report.identity, all_rows())
