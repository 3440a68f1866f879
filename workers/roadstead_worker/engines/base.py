"""What a replica must know of an engine: how to start it, where it listens, what it serves, how fast it says it was.

An engine is an OpenAI-compatible HTTP server in a process of its own. It listens on a loopback port of its own
choosing (port 0, so that no two can race for one) and writes a line that tells the address; it demands the key in
``ENGINE_KEY_VARIABLE`` of every caller, so that other processes of the machine cannot use it past the replica's door.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

ENGINE_KEY_VARIABLE: Final = "LLAMA_API_KEY"
"""Environment variable that carries the key: not the command line, which every user of the machine can read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What one engine process shall serve."""

    model: Path
    served_name: str
    context_tokens: int
    """Per sequence; the engine reserves this much for each of ``concurrency`` sequences."""
    concurrency: int
    threads: int
    devices: tuple[str, ...] = ()
    """Ids of the accelerators that hold the model whole, and of which it sees no other; none: on the processor."""
    mapped: bool = True
    """Whether the weights are mapped from their file; else they are read into memory of the engine's own."""
    extra_args: tuple[str, ...] = ()
    """Already in the engine's own words."""


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """A process to start."""

    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    """Added to the replica's allow-list, never instead of it."""


@dataclass(frozen=True, slots=True)
class Timings:
    """How fast one answer was, as the engine itself measured it."""

    generated_tokens: int
    tokens_per_second: float
    time_to_first_token_seconds: float
    prompt_tokens: int = 0
    """Those that were worked through; what was still known of the prompt before is not counted."""
    prompt_tokens_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Which of the replica's paths the engine answers."""

    post: frozenset[str]
    get: frozenset[str]


class Engine(Protocol):
    """One kind of engine."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def health_path(self) -> str:
        """Answers 200 as soon as requests can be served, and needs no key."""
        ...

    def command(self, spec: EngineSpec) -> EngineCommand: ...

    def address_in(self, line: str) -> str | None:
        """The base address (``http://127.0.0.1:34377``) if this line of output tells it."""
        ...

    def complaint_in(self, line: str) -> str | None:
        """The sentence in this line of output if it tells an error: the first one names the cause, most often."""
        ...

    def warm_up_request(self, *, generated_tokens: int) -> tuple[str, dict[str, object]]:
        """Path and body of a small completion that always generates that many tokens."""
        ...

    def timings_in(self, answer: bytes) -> Timings | None:
        """The engine's own timings, from a whole answer or the last two kilobytes of a stream."""
        ...
