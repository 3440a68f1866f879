"""Runs of `llama-perplexity`: watched chunk by chunk, ended when it is silent for too long or the command is left."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Final

from roadstead.cli.failures import CommandError
from roadstead.cli.measuring import output
from roadstead.cli.measuring.output import Chunks, Statistics
from roadstead.cli.measuring.program import PROGRAM, Program
from roadstead.embedded.progress import duration

CHUNK_TOKENS: Final = 512
_LOGITS_HEADER_BYTES: Final = 20
_READ_BYTES: Final = 65_536
_LINE_BYTES: Final = 512
"""More than a line about a chunk has; the last one may have come in two parts."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The run that others are compared with."""

    perplexity: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Runner:
    """How each run is made."""

    program: Program
    _: KW_ONLY
    threads: int
    silence_seconds: float
    watch: Callable[[Chunks], None]

    def base(self, weights: Path, *, corpus: Path, chunks: int, logits: Path) -> Baseline:
        """Read the text with the best variant, and write down what it expects of each token."""
        said = self._run(weights, "-f", corpus, "--chunks", chunks, "--kl-divergence-base", logits)
        perplexity = output.final_perplexity(said)
        if perplexity is None:
            raise _failed(weights, said)
        return Baseline(perplexity, output.chunks(said).total * CHUNK_TOKENS)

    def against(self, weights: Path, *, logits: Path) -> Statistics:
        """Read the same tokens with another variant."""
        said = self._run(weights, "--kl-divergence", "--kl-divergence-base", logits)
        found = output.statistics(said)
        if found is None:
            raise _failed(weights, said)
        return found

    def _run(self, weights: Path, *arguments: object) -> str:
        # A chunk at a time: its logits are most of the memory that is taken beside the weights, and it shows progress.
        size = str(CHUNK_TOKENS)
        shape = ("-m", weights, "-c", size, "-b", size, "-ub", size, "-t", self.threads)
        with subprocess.Popen(
            [str(each) for each in (self.program.path, *shape, *arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as child:
            try:
                said = self._read(child)
            except BaseException:
                child.kill()
                raise
        if child.returncode:
            raise _failed(weights, said, status=child.returncode)
        return said

    def _read(self, child: subprocess.Popen[bytes]) -> str:
        assert child.stdout is not None  # noqa: S101 - it is a pipe
        said = bytearray()
        before = Chunks(0, 0)
        heard = time.monotonic()
        while True:
            readable, _, _ = select.select([child.stdout], [], [], self.silence_seconds)
            if not readable:
                raise CommandError(
                    "ToolSilent",
                    f"{PROGRAM} said nothing for {duration(time.monotonic() - heard)} and was ended.",
                    remedy="Give it fewer threads if the machine is busy, or more time: --timeout MINUTES.",
                )
            heard = time.monotonic()
            content = os.read(child.stdout.fileno(), _READ_BYTES)
            if not content:
                return said.decode(errors="replace")
            said += content
            news = said[-len(content) - _LINE_BYTES :] if before.total else said
            now = output.chunks(news.decode(errors="replace"), before)
            if now != before:
                self.watch(now)
                before = now


def logits_bytes(*, vocabulary_size: int, chunks: int) -> int:
    """Size of the file between the runs: of the second half of each chunk, two bytes for each word that may follow."""
    row = 2 * ((vocabulary_size + 1) // 2) + 4
    judged = CHUNK_TOKENS - 1 - CHUNK_TOKENS // 2
    return _LOGITS_HEADER_BYTES + chunks * (4 * CHUNK_TOKENS + 2 * row * judged)


def _failed(weights: Path, said: str, *, status: int = 0) -> CommandError:
    if "need at least" in said:
        return CommandError(
            "CorpusTooShort",
            f"The text is too short: it must be at least {2 * CHUNK_TOKENS} tokens.",
            remedy="Name a longer one: --corpus FILE.",
        )
    words = output.complaint(said).rstrip(".") or f"it ended with status {status} without a word"
    why = f"it was ended by signal {-status}" if status < 0 else words
    return CommandError(
        "ToolFailed",
        f"{PROGRAM} failed with {weights}: {why}.",
        remedy="If it was ended by signal 9, memory ran out. See whether the file answers: llama-cli -m FILE.",
    )
