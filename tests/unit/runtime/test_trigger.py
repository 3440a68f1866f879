"""Many events, one turn."""

from __future__ import annotations

import asyncio

from roadstead.runtime.trigger import Debounce, Trigger

QUICK = Debounce(quiet=0.02, max_wait=0.2, resync=5.0)


async def test_a_burst_costs_one_turn_and_names_every_reason() -> None:
    trigger = Trigger(QUICK)
    for reason in ("model", "node", "model"):
        trigger.poke(reason)

    assert await trigger.wait() == {"model", "node"}


async def test_pokes_without_end_do_not_hold_the_turn_up_for_ever() -> None:
    trigger = Trigger(QUICK)

    async def chatter() -> None:
        while True:
            trigger.poke("noise")
            await asyncio.sleep(0.005)

    task = asyncio.create_task(chatter())
    started = asyncio.get_running_loop().time()
    await trigger.wait()

    assert asyncio.get_running_loop().time() - started < 1.0
    task.cancel()


async def test_without_a_poke_the_resync_turns() -> None:
    assert await Trigger(Debounce(resync=0.02)).wait() == frozenset()


async def test_a_due_retry_brings_the_resync_forward() -> None:
    assert await Trigger(QUICK).wait(at_most=0.01) == frozenset()


async def test_a_poke_during_a_turn_starts_the_next_one() -> None:
    trigger = Trigger(QUICK)
    trigger.poke("first")
    await trigger.wait()

    trigger.poke("second")

    assert await trigger.wait() == {"second"}


async def test_what_happened_during_a_turn_and_was_followed_by_quiet_is_not_waited_for_once_more() -> None:
    trigger = Trigger(Debounce(quiet=0.05, max_wait=10.0))
    trigger.poke("during the turn")
    await asyncio.sleep(0.06)
    started = asyncio.get_running_loop().time()
    assert await trigger.wait() == {"during the turn"}
    assert asyncio.get_running_loop().time() - started < 0.04


async def test_after_a_long_turn_events_are_gathered_for_longer() -> None:
    trigger = Trigger(Debounce(quiet=10.0, max_wait=0.0, pause=0.5))
    trigger.poke("a turn begins")
    await trigger.wait()
    await asyncio.sleep(0.2)
    trigger.poke("something")
    started = asyncio.get_running_loop().time()
    await trigger.wait()
    assert 0.08 < asyncio.get_running_loop().time() - started < 0.2
