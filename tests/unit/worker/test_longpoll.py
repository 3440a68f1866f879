"""Following a state: at once when it differs, after a change, or after the waiting time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roadstead_worker.agent.longpoll import PublishedState, state_digest
from roadstead_worker.contract import CellState


def cell(*, epoch: int = 1, **fields: Any) -> CellState:  # noqa: ANN401 - whatever the contract has
    return CellState(digest="", epoch=epoch, cell="default", base="sha256:0", reachable=True, **fields)


def published(state: CellState | None = None, *, wait_seconds: float = 30.0) -> PublishedState[CellState]:
    made: PublishedState[CellState] = PublishedState(wait_seconds=wait_seconds)
    if state is not None:
        made.publish(state)
    return made


async def test_a_state_that_differs_is_answered_at_once() -> None:
    states = published(cell())
    async with asyncio.timeout(5):
        first = await states.wait(after="")
        other = await states.wait(after="sha256:something-else")
    assert first is not None
    assert first == other == states.state


async def test_a_change_wakes_all_who_wait_for_it() -> None:
    states = published(cell())
    assert states.state is not None
    waiters = [asyncio.create_task(states.wait(after=states.state.digest)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not states.publish(cell()), "the same again is no change"
    await asyncio.sleep(0)
    assert not any(waiter.done() for waiter in waiters)
    assert states.publish(cell(epoch=2))
    async with asyncio.timeout(5):
        told = await asyncio.gather(*waiters)
    assert [state.epoch for state in told if state is not None] == [2, 2, 2]


async def test_without_a_change_the_same_state_comes_after_the_waiting_time() -> None:
    states = published(cell(), wait_seconds=0.01)
    assert states.state is not None
    async with asyncio.timeout(5):
        assert await states.wait(after=states.state.digest) == states.state


async def test_before_anything_is_published_there_is_nothing() -> None:
    async with asyncio.timeout(5):
        assert await published(wait_seconds=0.01).wait() is None


async def test_a_cancelled_waiter_leaves_the_others_waiting() -> None:
    states = published(cell())
    assert states.state is not None
    gone, stays = (asyncio.create_task(states.wait(after=states.state.digest)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    states.publish(cell(epoch=5))
    async with asyncio.timeout(5):
        told = await stays
    assert told is not None
    assert told.epoch == 5


async def test_closing_answers_those_who_wait_and_those_who_come_later() -> None:
    states = published(cell())
    assert states.state is not None
    digest = states.state.digest
    waiter = asyncio.create_task(states.wait(after=digest))
    await asyncio.sleep(0)
    states.close()
    async with asyncio.timeout(5):
        assert await waiter == states.state
        assert await states.wait(after=digest) == states.state


def test_the_digest_covers_everything_but_itself_and_not_the_order_of_keys() -> None:
    assert state_digest(cell()) == state_digest(cell().model_copy(update={"digest": "x"}))
    assert state_digest(cell()) != state_digest(cell(nodes=("a",)))
    one = {"name": "s", "status": "RUNNING", "config": {"a": 1, "b": 2}}
    other = {"name": "s", "status": "RUNNING", "config": {"b": 2, "a": 1}}
    assert state_digest(cell(applications=(one,))) == state_digest(cell(applications=(other,)))
