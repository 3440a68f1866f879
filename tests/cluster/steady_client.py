"""A client that asks at a steady rate for as long as a fleet lives, and writes down how each request went.

A process of its own (``python -m tests.cluster.steady_client``), so that a test which waits for something else never
slows it. It is the official ``openai`` client with the retries that it has by default: what a team's program would see.
Every fifth request streams. One JSON line a request; SIGTERM ends it after the requests under way.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import openai
from pydantic import BaseModel, ConfigDict

PER_SECOND: Final = 5
_STREAMS_EVERY: Final = 5
_QUESTION: Final = "Name a harbour."
_TOKENS: Final = 8
_END_SECONDS: Final = 60


class Asked(BaseModel):
    """How one request went."""

    model_config = ConfigDict(frozen=True)

    at: float
    """Unix seconds at which it was due."""
    seconds: float
    stream: bool
    error: str = ""
    """Class and message; empty for success."""
    retries: int = 0
    release: str = ""


@dataclass(frozen=True, slots=True)
class SteadyClient:
    """A running client, seen by a test."""

    log: Path
    process: subprocess.Popen[bytes]

    def asked(self, *, since: float = 0.0) -> list[Asked]:
        """Requests that have ended, by the time they were due."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [one for line in lines if (one := Asked.model_validate_json(line)).at >= since]

    def failures(self, *, since: float = 0.0) -> list[Asked]:
        return [one for one in self.asked(since=since) if one.error]

    def end(self) -> None:
        """Ask no more; requests under way finish."""
        self.process.terminate()
        self.process.wait(_END_SECONDS)

    def retried(self, *, since: float = 0.0) -> list[Asked]:
        return [one for one in self.asked(since=since) if one.retries]


@contextmanager
def steady_client(url: str, *, key: str, model: str, log: Path) -> Iterator[SteadyClient]:
    """Asks until the block ends."""
    command = [sys.executable, "-m", "tests.cluster.steady_client", "--url", url, "--model", model, "--log", str(log)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(key.encode())
    process.stdin.close()
    client = SteadyClient(log=log, process=process)
    try:
        yield client
    finally:
        client.end()


async def _ask(client: openai.AsyncOpenAI, *, model: str, stream: bool, due: float) -> Asked:
    began = time.monotonic()
    retries, release, error = 0, "", ""
    try:
        answer = await client.chat.completions.with_raw_response.create(
            model=model,
            messages=[{"role": "user", "content": _QUESTION}],
            max_tokens=_TOKENS,
            stream=stream,
        )
        retries, release = answer.retries_taken, answer.headers.get("x-roadstead-release", "")
        parsed = answer.parse()
        if isinstance(parsed, openai.AsyncStream):
            finished = [chunk.choices[0].finish_reason async for chunk in parsed if chunk.choices]
            error = "" if finished and finished[-1] else "the stream ended without a reason"
        elif not parsed.choices[0].message.content:
            error = "an empty answer"
    except openai.OpenAIError as failure:
        error = f"{type(failure).__name__}: {failure}"
    return Asked(
        at=due,
        seconds=round(time.monotonic() - began, 3),
        stream=stream,
        error=error,
        retries=retries,
        release=release,
    )


async def _run(url: str, *, key: str, model: str, log: IO[str]) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, timeout=60) as client,
        asyncio.TaskGroup() as asking,
    ):

        async def one(number: int, due: float) -> None:
            asked = await _ask(client, model=model, stream=number % _STREAMS_EVERY == 0, due=due)
            log.write(asked.model_dump_json() + "\n")
            log.flush()

        number, began = 0, time.time()
        while not ended.is_set():
            due = began + number / PER_SECOND
            try:
                async with asyncio.timeout(max(0.0, due - time.time())):
                    await ended.wait()
            except TimeoutError:
                asking.create_task(one(number, due))
                number += 1


def main() -> None:
    parser = argparse.ArgumentParser(description="The key is read from standard input.")
    for name in ("--url", "--model", "--log"):
        parser.add_argument(name, required=True)
    chosen = parser.parse_args()
    with Path(chosen.log).open("a", encoding="utf-8") as log:
        asyncio.run(_run(chosen.url, key=sys.stdin.read().strip(), model=chosen.model, log=log))


if __name__ == "__main__":
    main()
