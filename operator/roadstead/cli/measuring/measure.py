"""From a LocalModel to records of its variants: find and check the files, run, write down each figure as it comes."""

from __future__ import annotations

import hashlib
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Final

from roadstead.cli.failures import CommandError
from roadstead.cli.kube import KubeApi
from roadstead.cli.local_models import local_model
from roadstead.cli.measuring.ladder import Ladder, Rung, Weights, find_file, ladder_of, verified
from roadstead.cli.measuring.output import Chunks
from roadstead.cli.measuring.program import PROGRAM, find_program
from roadstead.cli.measuring.records import write_record
from roadstead.cli.measuring.running import CHUNK_TOKENS, Runner, logits_bytes
from roadstead.domain.quality import QualityRecord, quality_of
from roadstead.domain.quantity import in_words
from roadstead.embedded.progress import Progress, duration, seconds_left

_SPARE_BYTES: Final = 256 << 20
"""Left free beside the file between the runs, so that nobody else on that disk is starved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line says."""

    namespace: str
    name: str
    variants: tuple[str, ...] = ()
    """Those to measure; empty means all."""
    named_files: Mapping[str, Path] = field(default_factory=dict)
    program: Path | None = None
    corpus: Path | None = None
    chunks: int
    threads: int
    scratch: Path | None = None
    silence_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was found out."""

    base: Rung
    base_perplexity: float
    measured: tuple[tuple[Rung, QualityRecord], ...]


def measure(kube: KubeApi, asked: Asked, progress: Progress) -> Outcome:
    """Measure, and patch the LocalModel after each variant; ``CommandError``."""
    program = find_program(asked.program)
    corpus = _corpus(asked.corpus)
    model = local_model(kube, asked.namespace, asked.name)
    ladder = ladder_of(kube, model, only=asked.variants)
    _require_measured(asked.named_files, ladder)
    with ended_by_signals(), _scratch(asked, ladder, corpus) as scratch:
        weights = _weights(ladder, asked, progress)
        text = scratch / "corpus.txt"
        text.write_bytes(corpus)
        course = _Course(progress, passes=1 + len(ladder.others))
        runner = Runner(program, threads=asked.threads, silence_seconds=asked.silence_seconds, watch=course.watch)
        logits = scratch / "logits"
        with course.step(ladder.base.variant), weights[ladder.base.digest].unchanged() as path:
            baseline = runner.base(path, corpus=text, chunks=asked.chunks, logits=logits)
        progress.say(f"{ladder.base.variant}: what others are measured against, perplexity {baseline.perplexity:.3f}")
        measured = []
        for rung in ladder.others:
            with course.step(rung.variant), weights[rung.digest].unchanged() as path:
                found = runner.against(path, logits=logits)
            record = QualityRecord(
                artifact=rung.digest,
                quality=quality_of(found.divergence, ladder.base.quality),
                divergence=found.divergence,
                same_top=found.same_top,
                perplexity=found.perplexity,
                base=ladder.base.digest,
                base_quality=ladder.base.quality,
                tool=PROGRAM,
                tool_version=program.version,
                corpus=f"sha256:{hashlib.sha256(corpus).hexdigest()}",
                tokens=baseline.tokens,
                measured=datetime.now(UTC),
            )
            write_record(kube, model, record, kept=ladder.kept)
            progress.say(f"{rung.variant}: quality {record.quality:.4f}, stored")
            measured.append((rung, record))
    return Outcome(base=ladder.base, base_perplexity=baseline.perplexity, measured=tuple(measured))


@dataclass(slots=True)
class _Course:
    """Tells where in all the runs the command is: each run reads the same chunks."""

    progress: Progress
    passes: int
    clock: Callable[[], float] = time.monotonic
    _variant: str = ""
    _before: int = 0
    """Runs that are done."""
    _started: float = 0.0
    """Of this run's chunks."""
    _spent: float = 0.0
    """Seconds of the runs that are done."""

    @contextmanager
    def step(self, variant: str) -> Iterator[None]:
        """One run."""
        self._variant, self._started = variant, self.clock()
        self.progress.update(f"{self._place}: loading")
        yield
        self._spent += self.clock() - self._started
        self._before += 1

    def watch(self, chunks: Chunks) -> None:
        """Called with each chunk."""
        if not chunks.done:
            self._started = self.clock()  # loading is not reading
            return
        elapsed = self.clock() - self._started
        rate = chunks.done * CHUNK_TOKENS / max(elapsed, 1e-6)
        done = self._before * chunks.total + chunks.done
        left = seconds_left(self._spent + elapsed, done=done, total=self.passes * chunks.total)
        words = f"{self._place}: {chunks.done} of {chunks.total} chunks, {rate:.0f} tokens/s"
        self.progress.update(words if left is None else f"{words}, {duration(left)} left")

    @property
    def _place(self) -> str:
        return f"{self._variant} ({self._before + 1} of {self.passes})"


def _require_measured(named_files: Mapping[str, Path], ladder: Ladder) -> None:
    """A name that was mistyped would else be passed over; ``CommandError`` ``NoSuchVariant``."""
    names = [rung.variant for rung in (ladder.base, *ladder.others)]
    unknown = sorted(set(named_files) - set(names))
    if unknown:
        raise CommandError(
            "NoSuchVariant",
            f"--file names {', '.join(unknown)}, which is not measured.",
            remedy=f"Those that are: {', '.join(names)}.",
        )


def _corpus(named: Path | None) -> bytes:
    """The text: the one that is named, else ours; ``CommandError`` ``CorpusUnreadable``."""
    if named is None:
        return files("roadstead.cli.measuring").joinpath("corpus.txt").read_bytes()
    try:
        content = named.read_bytes()
        content.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        sentence = f"{named} cannot be read: {why}."
        raise CommandError("CorpusUnreadable", sentence, remedy="Name a file of plain text.") from error
    return content


@contextmanager
def _scratch(asked: Asked, ladder: Ladder, corpus: bytes) -> Iterator[Path]:
    """A folder with room for what is between the runs, gone afterwards; ``CommandError`` ``InsufficientDisk``."""
    place = asked.scratch or Path(tempfile.gettempdir())
    chunks = min(asked.chunks, len(corpus) // CHUNK_TOKENS)  # a token is a byte at least
    needed = logits_bytes(vocabulary_size=ladder.base.vocabulary_size, chunks=chunks) + len(corpus)
    remedy = "Name a folder with more room: --scratch FOLDER. Or read less: --chunks NUMBER."
    try:
        free = shutil.disk_usage(place).free
        if needed + _SPARE_BYTES > free:
            raise CommandError(
                "InsufficientDisk",
                f"The runs need {in_words(needed)} in {place} between them, and {in_words(_SPARE_BYTES)} to spare; "
                f"{in_words(free)} are free.",
                remedy=remedy,
            )
        folder = tempfile.TemporaryDirectory(prefix="roadstead-quality-", dir=place)
    except OSError as error:
        raise CommandError("InsufficientDisk", f"{place} cannot be used: {error.strerror}.", remedy=remedy) from error
    with folder as path:
        yield Path(path)


def _weights(ladder: Ladder, asked: Asked, progress: Progress) -> dict[str, Weights]:
    """By digest: all are found before the first is read, and all are read before the first is measured."""
    found = [(rung, find_file(rung, asked.named_files)) for rung in (ladder.base, *ladder.others)]
    return {rung.digest: verified(rung, path, progress) for rung, path in found}


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """What asks the command to end does so as ^C does: children are ended and files are removed on the way out."""
    before = {each: signal.signal(each, signal.default_int_handler) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
