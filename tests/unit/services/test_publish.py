"""What is told at once, what may wait, and what is not told again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from roadstead.domain.model import ConditionStatus, ModelSpec, VariantSpec
from roadstead.domain.plan import ConditionReport, FleetPlan, ModelReport, PoolReport, Resolve, SetFinalizer
from roadstead.domain.reasons import Reason
from roadstead.domain.snapshot import ResolutionKey
from roadstead.ports import Cluster, DoorError
from roadstead.services import side_by_side
from roadstead.services.publish import WORDS_SECONDS, Published, Publisher
from tests.contract.postgres.ledger_values import a_model
from tests.fixtures.patience import until

FILE, OTHER = "file:///a.gguf", "file:///b.gguf"
NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)


class Readers:
    """Answers to the part of the port that is written to."""

    def __init__(self) -> None:
        self.statuses: list[str] = []
        self.away = False

    async def publish_status(self, report: ModelReport) -> None:
        if self.away:
            raise DoorError("ApiUnavailable", "the API server does not answer")
        self.statuses.append(report.conditions[0].message)

    async def publish_pool(self, report: PoolReport) -> None:
        raise AssertionError("there is no pool here")


class Desk:
    """A publisher and its readers; time passes by hand."""

    def __init__(self) -> None:
        self.readers = Readers()
        self.publisher = Publisher()
        self.now = NOW

    async def tell(self, *reports: ModelReport, after_seconds: float = 0) -> Published:
        self.now += timedelta(seconds=after_seconds)
        return await self.carry_out(FleetPlan(actions=(), reports=reports))

    async def carry_out(self, plan: FleetPlan, **learned: Callable[[], Awaitable[frozenset[str]]]) -> Published:
        return await self.publisher.publish(plan, cast("Cluster", self.readers), self.now, **learned)


def _report(words: str, *, reason: Reason = Reason.INSUFFICIENT_RAM, uid: str | None = None) -> ModelReport:
    placed = ConditionReport(type="Placed", status=ConditionStatus.FALSE, reason=reason, message=words)
    model = a_model() if uid is None else replace(a_model(), uid=uid)
    return ModelReport(model=model, release=None, previous=None, replicas=0, ready=0, conditions=(placed,))


async def test_what_a_person_would_notice_is_told_at_once() -> None:
    desk = Desk()
    await desk.tell(_report("no room"))
    told = await desk.tell(_report("no agent", reason=Reason.AGENT_UNAVAILABLE))
    assert desk.readers.statuses == ["no room", "no agent"]
    assert told.again_after_seconds is None


async def test_other_words_for_the_same_wait_until_ten_seconds_have_passed() -> None:
    desk = Desk()
    await desk.tell(_report("3 bytes short"))
    waits = await desk.tell(_report("2 bytes short"), after_seconds=1)
    assert waits.again_after_seconds == WORDS_SECONDS - 1
    last = _report("1 byte short")
    await desk.tell(last, after_seconds=1)
    told = await desk.tell(last, after_seconds=WORDS_SECONDS - 2)
    assert desk.readers.statuses == ["3 bytes short", "1 byte short"]
    assert told.again_after_seconds is None


async def test_words_that_wait_are_told_along_with_what_is_noticed() -> None:
    desk = Desk()
    await desk.tell(_report("3 bytes short"))
    await desk.tell(_report("2 bytes short"), after_seconds=1)
    await desk.tell(replace(_report("2 bytes short"), replicas=1), after_seconds=1)
    assert desk.readers.statuses == ["3 bytes short", "2 bytes short"]


async def test_a_report_that_was_told_is_not_told_again() -> None:
    desk = Desk()
    report = _report("no room")
    await desk.tell(report)
    await desk.tell(report, after_seconds=3600)
    assert desk.readers.statuses == ["no room"]


async def test_an_object_that_somebody_wrote_to_is_looked_at_at_once() -> None:
    desk = Desk()
    await desk.tell(_report("no room"))
    await desk.tell(replace(_report("no room"), model=replace(a_model(), resource_version="2")))
    assert desk.readers.statuses == ["no room", "no room"]


async def test_what_could_not_be_written_is_written_by_the_next_turn() -> None:
    desk = Desk()
    report = _report("no room")
    desk.readers.away = True
    assert (await desk.tell(report)).failed == 1
    desk.readers.away = False
    assert (await desk.tell(report)).failed == 0
    assert desk.readers.statuses == ["no room"]


async def test_only_those_whom_the_plan_concerns_wait_until_it_has_been_carried_out() -> None:
    desk = Desk()
    elsewhere, here = (ModelSpec(served_name="x", variants=(VariantSpec(name="q", source=at),)) for at in (OTHER, FILE))
    other, asking, claimed = (
        replace(report, model=replace(report.model, spec=spec))
        for report, spec in (
            (_report("other", uid="1"), elsewhere),
            (_report("asking", uid="2"), here),
            (_report("claimed", uid="3"), elsewhere),
        )
    )
    actions = (
        Resolve(key=ResolutionKey(node="node-a", source=FILE, digest=None)),
        SetFinalizer(model=claimed.model),
    )
    done = asyncio.get_running_loop().create_future()
    plan = FleetPlan(actions=actions, reports=(other, asking, claimed))
    telling = asyncio.create_task(desk.carry_out(plan, learned=lambda: done))
    await until(lambda: desk.readers.statuses == ["other"], "the one that nothing is done for is told of")
    done.set_result(frozenset({FILE}))
    await telling
    assert desk.readers.statuses == ["other", "claimed"], "the answer makes the words of the one that asked out of date"


async def test_what_there_is_no_time_for_is_told_by_the_turns_that_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_SECONDS", -1.0)
    desk = Desk()
    reports = [_report(str(number), uid=str(number)) for number in range(40)]
    assert (await desk.tell(*reports)).again_after_seconds == 0
    assert len(desk.readers.statuses) == 16
    await desk.tell(*reports)
    assert (await desk.tell(*reports)).again_after_seconds is None
    assert sorted(desk.readers.statuses, key=int) == [str(number) for number in range(40)]


async def test_a_model_that_is_gone_and_comes_back_is_told_again() -> None:
    desk = Desk()
    report = _report("no room")
    await desk.tell(report)
    await desk.tell()
    await desk.tell(report)
    assert desk.readers.statuses == ["no room", "no room"]
