"""Which of the figures that agents tell are news for the ledger, and what finding out costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roadstead.adapters.postgres import measuring
from roadstead.adapters.postgres.measuring import Change, Recorded, changes, follow
from roadstead.domain.measured import Measured, Shown, measured_of, news
from roadstead.domain.snapshot import AgentFacts

A, B = "a" * 64, "b" * 64
GIB = 1 << 30


def facts(memory: int = GIB, speed: float | None = 20.0, wait: float | None = 2.0, *, content: str = A) -> AgentFacts:
    return AgentFacts(
        epoch=1,
        cores=16,
        isa=(),
        budget_bytes=64 * GIB,
        free_bytes=32 * GIB,
        disk_free_bytes=64 * GIB,
        engines=(),
        weights=(),
        leases=(),
        measured_bytes=((content, memory),),
        measured_speeds=() if speed is None else ((content, speed),),
        measured_waits=() if wait is None else ((content, wait),),
    )


def shown(**agents: AgentFacts) -> Shown:
    return Shown(nodes=frozenset(agents), agents=agents, quality={})


def measured(memory: int | None = GIB, speed: float | None = 20.0, wait: float | None = 2.0) -> Measured:
    return Measured(memory_bytes=memory, tokens_per_second=speed, first_token_seconds=wait)


def in_turn(*told: Shown) -> list[list[Change]]:
    """What each of them changes after the one before."""
    recorded: dict[str, Recorded] = {}
    found = []
    for each in told:
        found.append(changes(recorded, each))
        follow(recorded, each, found[-1])
    return found


@pytest.mark.parametrize(
    "now",
    [
        measured(memory=int(GIB * 1.019)),
        measured(memory=int(GIB * 0.981)),
        measured(speed=21.9, wait=1.81),
        measured(speed=18.1, wait=2.19),
    ],
)
def test_figures_that_are_close_to_what_was_written_are_no_news(now: Measured) -> None:
    assert news(measured(), now) is None


@pytest.mark.parametrize(
    "now",
    [
        measured(memory=int(GIB * 1.021)),
        measured(memory=int(GIB * 0.979)),
        measured(speed=22.1),
        measured(speed=17.9),
        measured(wait=2.21),
        measured(wait=1.79),
    ],
)
def test_one_figure_that_has_moved_is_news(now: Measured) -> None:
    assert news(measured(), now) == now


def test_a_figure_that_was_not_known_before_is_news() -> None:
    assert news(measured(wait=None), measured()) == measured()


def test_a_figure_that_is_not_told_any_more_holds() -> None:
    assert news(measured(), measured(speed=None, wait=None)) is None
    assert news(measured(), measured(speed=40.0, wait=None)) == measured(speed=40.0)


def test_what_creeps_is_compared_with_what_was_written_and_not_with_what_was_told_last() -> None:
    told = [shown(n=facts(speed=speed)) for speed in (20.0, 21.0, 21.9, 22.5, 23.5)]
    assert [[change.opens for change in found] for found in in_turn(*told)] == [
        [measured()],
        [],
        [],
        [measured(speed=22.5)],
        [],
    ]


def test_what_is_no_hash_of_a_content_and_an_engine_that_had_ended_are_passed_over() -> None:
    assert measured_of(facts(content="\x00")) == {}
    assert measured_of(facts(memory=0)) == {A: measured(memory=None)}


def test_a_content_that_the_agent_has_forgotten_ends() -> None:
    _, found = in_turn(shown(n=facts(content=A)), shown(n=facts(content=B)))
    assert found == [
        Change(node="n", content=A, closes="Removed", opens=None),
        Change(node="n", content=B, closes=None, opens=measured()),
    ]


def test_a_node_that_is_not_heard_keeps_its_rows_and_one_that_is_gone_does_not() -> None:
    silent = Shown(nodes=frozenset("n"), agents={}, quality={})
    gone = Shown(nodes=frozenset(), agents={}, quality={})
    assert in_turn(shown(n=facts()), silent, gone, gone)[1:] == [
        [],
        [Change(node="n", content=A, closes="Removed", opens=None)],
        [],
    ]


def test_an_answer_that_tells_the_same_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_into: list[AgentFacts] = []

    def counted(told: AgentFacts) -> dict[str, Measured]:
        looked_into.append(told)
        return measured_of(told)

    monkeypatch.setattr(measuring, "measured_of", counted)
    fleet = {f"n{number}": facts() for number in range(50)}
    busy = {**fleet, "n6": replace(facts(), free_bytes=1)}
    noisy = {**busy, "n7": facts(speed=21.0)}
    assert in_turn(shown(**fleet), shown(**fleet), shown(**busy), shown(**noisy))[1:] == [[], [], []]
    assert len(looked_into) == 51
    assert looked_into[-1] is noisy["n7"]
