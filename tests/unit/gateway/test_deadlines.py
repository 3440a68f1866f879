"""Many waits, one timer."""

from __future__ import annotations

from roadstead_gateway.deadlines import Deadlines
from tests.fixtures.patience import until


class Request:
    def __init__(self, told: list[Request]) -> None:
        self._told = told

    def overdue(self) -> None:
        self._told.append(self)


async def test_those_that_wait_too_long_are_told_in_order_and_the_others_never() -> None:
    told: list[Request] = []
    deadlines = Deadlines(0.02)
    first, quick, last = Request(told), Request(told), Request(told)
    for request in (first, quick, last):
        deadlines.add(request)
    deadlines.discard(quick)
    deadlines.discard(quick)
    await until(lambda: len(told) == 2, "both are overdue")
    assert told == [first, last]
    assert deadlines._timer is None


async def test_one_that_begins_while_another_waits_gets_its_own_time() -> None:
    told: list[Request] = []
    deadlines = Deadlines(0.05)
    first, second = Request(told), Request(told)
    deadlines.add(first)
    deadlines.discard(first)
    deadlines.add(second)
    await until(lambda: told, "the second is overdue")
    assert told == [second]
    third = Request(told)
    deadlines.add(third)
    await until(lambda: len(told) == 2, "a queue that was empty wakes again")
