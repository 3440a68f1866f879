"""Which answers say how fast an engine is, and when that is worth a word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roadstead_worker.contract import Measurement
from roadstead_worker.engines.base import Timings
from roadstead_worker.engines.llama_cpp import LlamaCpp
from roadstead_worker.replica import measuring
from roadstead_worker.replica.measuring import Measured
from roadstead_worker.replica.memory_claim import AgentSocket
from tests.fixtures.patience import until

WARM_UP = Timings(
    generated_tokens=16,
    tokens_per_second=20.0,
    time_to_first_token_seconds=0.1,
    prompt_tokens=12,
    prompt_tokens_per_second=30.0,
)
"""Its prompt is too short to tell how fast prompts are read."""
SPOKEN = {
    "cache_n": 0, "prompt_n": 236, "prompt_ms": 1180.0, "prompt_per_token_ms": 5.0, "prompt_per_second": 200.0,
    "predicted_n": 64, "predicted_ms": 3200.0, "predicted_per_token_ms": 50.0, "predicted_per_second": 20.0,
}  # fmt: skip
"""The ``timings`` of llama.cpp's server (ggml-org/llama.cpp: tools/server/server-task.cpp, ``result_timings``)."""


class Agent(AgentSocket):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.told: list[Measurement] = []

    async def report(self, measurement: Measurement) -> None:
        self.told.append(measurement)


async def reported(agent: Agent, number: int) -> Measurement:
    await until(lambda: len(agent.told) >= number, f"{number} reports came")
    return agent.told[-1]


def answer(prompt: int, per_second: float, *, generated: int = 64) -> Timings:
    return Timings(
        generated_tokens=generated,
        tokens_per_second=20.0,
        time_to_first_token_seconds=1.0,
        prompt_tokens=prompt,
        prompt_tokens_per_second=per_second,
    )


def test_what_llama_cpp_says_of_an_answer_is_understood() -> None:
    body = json.dumps({"choices": [{"text": '"timings": {"prompt_n": 9}'}], "timings": SPOKEN}).encode()
    assert LlamaCpp().timings_in(body) == Timings(
        generated_tokens=64,
        tokens_per_second=20.0,
        time_to_first_token_seconds=1.23,
        prompt_tokens=236,
        prompt_tokens_per_second=200.0,
    )


def test_an_answer_that_does_not_tell_of_its_prompt_is_understood_all_the_same() -> None:
    told = {key: value for key, value in SPOKEN.items() if key not in {"prompt_n", "prompt_per_second"}}
    timings = LlamaCpp().timings_in(json.dumps({"timings": told}).encode())
    assert timings is not None
    assert (timings.prompt_tokens, timings.prompt_tokens_per_second) == (0, None)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are not spread over time."""
    monkeypatch.setattr(measuring, "_REPORT_EVERY_SECONDS", -1.0)


@pytest.mark.usefixtures("at_once")
async def test_the_speed_of_prompts_is_told_once_a_long_one_came_and_when_it_clearly_moved() -> None:
    agent = Agent()
    measured = Measured(agent=agent, content="c", slot="s")
    measured.started(load_seconds=1.0, timings=WARM_UP)
    first = await reported(agent, 1)
    assert (first.tokens_per_second, first.prompt_tokens_per_second) == (20.0, None)

    measured.answered(answer(63, 900.0), in_flight=1)
    measured.answered(answer(640, 900.0), in_flight=2)
    measured.answered(answer(640, 200.0, generated=1), in_flight=1)
    assert (await reported(agent, 2)).prompt_tokens_per_second == 200.0, "an answer of one word tells as well"

    measured.answered(answer(640, 210.0), in_flight=1)
    measured.answered(answer(640, 600.0), in_flight=1)
    assert (await reported(agent, 3)).prompt_tokens_per_second == pytest.approx(203 * 0.7 + 600 * 0.3, abs=0.01)
    await measured.close()


async def test_reports_are_minutes_apart_so_that_a_busy_model_wakes_nobody() -> None:
    agent = Agent()
    measured = Measured(agent=agent, content="c", slot="s")
    measured.started(load_seconds=1.0, timings=WARM_UP)
    await reported(agent, 1)
    report = measured._report
    for speed in (100.0, 500.0):
        measured.answered(answer(640, speed), in_flight=1)
    assert measured._report is report
    await measured.close()
