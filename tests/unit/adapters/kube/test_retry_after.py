"""After ``Retry-After`` one request tries first, and everybody else is told at once."""

from __future__ import annotations

import asyncio

import pytest

from roadstead.adapters.kube.retry_after import LONGEST_SECONDS, NotYet, RetryAfter
from roadstead.adapters.kube.settings import KubeSettings
from roadstead.handlers import edge


class Clock:
    """Time passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.now += seconds


@pytest.fixture
def way() -> RetryAfter:
    clock = Clock()
    return RetryAfter(clock=clock, sleep=clock.sleep)


async def passes(way: RetryAfter, *, patience_seconds: float = 15) -> bool:
    try:
        async with way.passed(patience_seconds=patience_seconds):
            return True
    except NotYet:
        return False


async def test_nobody_waits_where_nobody_was_asked_to(way: RetryAfter) -> None:
    way.heard(503, None)
    way.heard(429, "soon")
    assert all(await asyncio.gather(*(passes(way) for _ in range(3))))


async def test_one_waits_and_the_others_are_told_at_once(way: RetryAfter) -> None:
    way.heard(429, "2")
    assert await asyncio.gather(*(passes(way) for _ in range(3))) == [True, False, False]


async def test_others_go_only_when_the_first_was_answered_otherwise(way: RetryAfter) -> None:
    way.heard(429, "1")
    async with way.passed(patience_seconds=15):
        assert not await passes(way)
        way.heard(429, "1")
    async with way.passed(patience_seconds=15):
        way.heard(200, None)
        assert await passes(way)


async def test_an_answer_to_what_was_sent_before_does_not_end_the_pause(way: RetryAfter) -> None:
    way.heard(429, "10")
    way.heard(200, None)
    assert not await passes(way, patience_seconds=1)


async def test_nobody_waits_for_longer_than_it_has_patience_nor_for_ever(way: RetryAfter) -> None:
    way.heard(429, "86400")
    assert not await passes(way, patience_seconds=LONGEST_SECONDS / 2)
    assert await passes(way, patience_seconds=LONGEST_SECONDS)


def test_a_dead_watch_is_found_out_within_75_seconds() -> None:
    assert KubeSettings().silence_seconds <= 75
    assert edge.settings().watching.inactivity_timeout <= 75
