"""Which accelerators this node has and how much of each is free, looked at again every few seconds.

In a thread: a card that hangs holds up whoever asks for it, and nothing else here may wait for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from roadstead_worker.agent.device_reading import DeviceReading
from roadstead_worker.agent.devices_amd import read_amd
from roadstead_worker.agent.devices_nvidia import LIBRARY, NvidiaDevices

log = structlog.get_logger(__name__)

_PATIENCE_SECONDS: Final = 10.0


class Devices:
    """Owns one task (``run``). ``current`` is the last look at them."""

    def __init__(self, *, look_every_seconds: float, nvml: str = LIBRARY, root: Path = Path("/")) -> None:
        self._nvidia = NvidiaDevices(nvml)
        self._root = root
        self._look_every_seconds = look_every_seconds
        self._current = DeviceReading(ambiguities=("accelerators have not answered yet",))
        self._asking = threading.Lock()

    @property
    def current(self) -> DeviceReading:
        return self._current

    async def first_look(self) -> None:
        """Does not wait for ever: an agent whose cards hang has other things to tell."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self.look()

    async def look(self) -> None:
        """Once. What cannot be read is told, and stops no agent."""
        try:
            self._current = await asyncio.to_thread(self._read)
        except Exception as error:
            log.exception("accelerators cannot be read")
            self._current = DeviceReading(ambiguities=(f"accelerators cannot be read: {error!r}",))

    def _read(self) -> DeviceReading:
        with self._asking:  # a look that nobody waits for any more may still be under way
            return self._nvidia.read() + read_amd(self._root)

    async def run(self, on_change: Callable[[], None]) -> None:
        """For ever; ``on_change`` after each look that found anything else than the one before."""
        while True:
            await asyncio.sleep(self._look_every_seconds)
            before = self._current
            await self.look()
            if self._current != before:
                on_change()
