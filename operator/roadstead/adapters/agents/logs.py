"""Engine logs from the node agents: the port ``EngineLogs``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Final
from urllib.parse import quote

from roadstead.adapters.doors.caller import DoorCaller
from roadstead.domain.engine_log import EngineLog
from roadstead_worker.contract import EngineLogFiles

_LIST_SECONDS: Final = 8.0
_LONGEST_LINE_BYTES: Final = 16 * 1024
"""A longer line may be told in pieces, so that none can fill the memory."""


class AgentLogs:
    """Reads logs through the doors of node agents. ``url`` raises ``DoorError`` for a node without an agent."""

    def __init__(self, caller: DoorCaller, url: Callable[[str], str]) -> None:
        self._caller = caller
        self._url = url

    async def listed(self, node: str) -> tuple[EngineLog, ...]:
        """Every log that the node still has."""
        reply = await self._caller.get(f"{self._url(node)}/logs", seconds=_LIST_SECONDS)
        return tuple(
            EngineLog(node=node, slot=file.slot, index=file.index, bytes=file.bytes)
            for file in self._caller.parsed(reply, EngineLogFiles).files
        )

    async def lines(self, log: EngineLog, *, lines: int, follow: bool) -> AsyncGenerator[str, None]:
        """The last lines, then with ``follow`` new ones for ever. Close it: it holds a connection."""
        params = {"index": str(log.index), "lines": str(lines), "follow": "true" if follow else "false"}
        url = f"{self._url(log.node)}/logs/{quote(log.slot, safe='')}"
        rest = b""
        async with self._caller.stream(url, params=params) as blocks:
            async for block in blocks:
                *whole, rest = (rest + block).split(b"\n")
                for line in whole:
                    yield line.decode(errors="replace").rstrip("\r")
                while len(rest) > _LONGEST_LINE_BYTES:
                    yield rest[:_LONGEST_LINE_BYTES].decode(errors="replace")
                    rest = rest[_LONGEST_LINE_BYTES:]
        if rest:
            yield rest.decode(errors="replace")
