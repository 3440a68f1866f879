"""What an engine really needs and does: memory from the kernel, speed from the engine's own timings of single answers.

Reported to the node agent after the start and then only when the speed has clearly moved, because each report changes
the state the operator follows: an idle or steady fleet must not wake it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Final

import aiohttp
import structlog

from roadstead_worker.contract import Measurement
from roadstead_worker.engines.base import Engine, Timings
from roadstead_worker.replica.engine_process import EngineProcess
from roadstead_worker.replica.memory_claim import AgentSocket, NotYet
from roadstead_worker.resident_memory import resident_bytes_below

WARM_UP_TOKENS: Final = 16
_WARM_UP_SECONDS: Final = 20.0
_MEANINGFUL_TOKENS: Final = 16
"""Shorter answers say more about the prompt than about the speed."""
_MEANINGFUL_PROMPT_TOKENS: Final = 64
"""Of shorter prompts most of the time is that of beginning."""
_REPORT_EVERY_SECONDS: Final = 300.0
_CLEARLY_MOVED: Final = 0.2
_WEIGHT_OF_NEWEST: Final = 0.3

log = structlog.get_logger(__name__)


async def engine_memory() -> int:
    """Resident bytes of all that this replica has started, which is its engine; 0 when none runs."""
    return await asyncio.to_thread(resident_bytes_below, os.getpid())


async def warm_up(
    engine: Engine, process: EngineProcess, session: aiohttp.ClientSession, *, key: str
) -> Timings | None:
    """Timings of one small completion before anybody else asks; None (and a word) if it does not come in time."""
    path, body = engine.warm_up_request(generated_tokens=WARM_UP_TOKENS)
    timeout = aiohttp.ClientTimeout(total=_WARM_UP_SECONDS)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        async with session.post(
            process.address + path, data=json.dumps(body), headers=headers, timeout=timeout
        ) as answer:
            return engine.timings_in(await answer.read()) if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError) as error:
        log.warning("no warm-up answer", reason=repr(error))
        return None


class Measured:
    """Collects figures of one engine content and reports them. Owned by the slot; ``close`` ends a report under way."""

    def __init__(self, *, agent: AgentSocket, content: str, slot: str) -> None:
        self._agent = agent
        self._content = content
        self._slot = slot
        self._load_seconds = 0.0
        self._speed: float | None = None
        self._first_token: float | None = None
        self._prompt_speed: float | None = None
        self._reported: tuple[float | None, float | None] = (None, None)
        """Speed and speed of prompts."""
        self._reported_at = 0.0
        self._report: asyncio.Task[None] | None = None

    def started(self, *, load_seconds: float, timings: Timings | None) -> None:
        """After the first start and its warm-up: report."""
        self._load_seconds = load_seconds
        if timings is not None:
            self._speed = timings.tokens_per_second
            self._first_token = timings.time_to_first_token_seconds
        self._report_now()

    def answered(self, timings: Timings | None, *, in_flight: int) -> None:
        """After each answer. Only answers that had the engine for themselves count."""
        if timings is None or in_flight != 1:
            return
        if timings.prompt_tokens >= _MEANINGFUL_PROMPT_TOKENS and timings.prompt_tokens_per_second:
            self._prompt_speed = _smoothed(self._prompt_speed, timings.prompt_tokens_per_second)
        if timings.generated_tokens >= _MEANINGFUL_TOKENS:
            self._speed = _smoothed(self._speed, timings.tokens_per_second)
            self._first_token = timings.time_to_first_token_seconds
        now = (self._speed, self._prompt_speed)
        moved = any(_clearly_moved(*pair) for pair in zip(self._reported, now, strict=True))
        if moved and time.monotonic() - self._reported_at > _REPORT_EVERY_SECONDS:
            self._report_now()

    async def close(self) -> None:
        if self._report is not None:
            self._report.cancel()
            await asyncio.gather(self._report, return_exceptions=True)

    def _report_now(self) -> None:
        if self._report is not None:
            self._report.cancel()
        self._reported, self._reported_at = (self._speed, self._prompt_speed), time.monotonic()
        self._report = asyncio.create_task(self._send(), name=f"measurement of {self._slot}")

    async def _send(self) -> None:
        measurement = Measurement(
            content=self._content,
            slot=self._slot,
            memory_bytes=await engine_memory(),
            load_seconds=round(self._load_seconds, 3),
            tokens_per_second=None if self._speed is None else round(self._speed, 2),
            time_to_first_token_seconds=None if self._first_token is None else round(self._first_token, 4),
            prompt_tokens_per_second=None if self._prompt_speed is None else round(self._prompt_speed, 2),
        )
        try:
            await self._agent.report(measurement)
        except NotYet as reason:
            log.warning("measurement not taken", slot=self._slot, reason=str(reason))


def _smoothed(known: float | None, newest: float) -> float:
    return newest if known is None else known * (1 - _WEIGHT_OF_NEWEST) + newest * _WEIGHT_OF_NEWEST


def _clearly_moved(before: float | None, now: float | None) -> bool:
    """Also if it was not known before."""
    return now is not None and (before is None or abs(now - before) > _CLEARLY_MOVED * before)
