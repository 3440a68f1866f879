"""llama.cpp's HTTP server, as the ``llama-server`` program or, without one, from the ``xllamacpp`` wheel.

Both are the same code and speak the same words, so only the command differs. ``--cache-ram 0`` because its default of
8 GiB of prompt cache would be memory nobody has leased; ``-c`` is the total over all sequences, while ours is per
sequence; ``-lv 3`` keeps prompts out of the log. Chat templates come from the GGUF (``--jinja``). Flags as measured
with llama.cpp b11434 and later.

Accelerators are named (``--device CUDA0``), though no other can be seen: a build that cannot use them ends with that as
its reason, instead of serving from memory of the host that nobody has leased. All layers go there, to several in equal
parts: by itself llama.cpp would divide by what is free. Without any, ``none`` is named: a build that finds some would
otherwise take them.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from roadstead_worker.engines.base import Capabilities, EngineCommand, EngineSpec, Timings
from roadstead_worker.engines.visible_devices import is_amd

SERVER_VARIABLE: Final = "ROADSTEAD_LLAMA_SERVER"
"""Path of a ``llama-server`` to use instead of the one on PATH; ``-`` means: never one, always the wheel."""

_LISTENING: Final = re.compile(r"listening on (http://[^\s,]+)")
_COMPLAINT: Final = re.compile(r"^(?:[\d.]+ E |(?:xllamacpp_server: )?error: |error while handling argument )(.+)")
_FIGURE: Final = r'"{}":\s*([0-9.eE+-]+)'
_GENERATED: Final = re.compile(_FIGURE.format("predicted_n").encode())
_PROMPT_MILLISECONDS: Final = re.compile(_FIGURE.format("prompt_ms").encode())
_PROMPT: Final = re.compile(_FIGURE.format("prompt_n").encode())
_PROMPT_PER_SECOND: Final = re.compile(_FIGURE.format("prompt_per_second").encode())
_PER_SECOND: Final = re.compile(_FIGURE.format("predicted_per_second").encode())
_PER_TOKEN_MILLISECONDS: Final = re.compile(_FIGURE.format("predicted_per_token_ms").encode())


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """llama.cpp; ``program`` is the ``llama-server`` to run, None for the wheel."""

    program: Path | None = None

    @classmethod
    def found(cls) -> Self:
        """The one this machine has."""
        wanted = os.environ.get(SERVER_VARIABLE, "")
        if wanted == "-":
            return cls()
        path = wanted or shutil.which("llama-server")
        return cls(Path(path) if path else None)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            post=frozenset({"/v1/chat/completions", "/v1/completions"}),
            get=frozenset({"/v1/models", "/health"}),
        )

    @property
    def health_path(self) -> str:
        return "/health"

    def command(self, spec: EngineSpec) -> EngineCommand:
        environment = {"OMP_NUM_THREADS": str(spec.threads)}
        if self.program is None:
            return EngineCommand(argv=_wheel_argv(spec), environment=environment)
        return EngineCommand(argv=_program_argv(self.program, spec), environment=environment)

    def address_in(self, line: str) -> str | None:
        found = _LISTENING.search(line)
        return found.group(1) if found else None

    def complaint_in(self, line: str) -> str | None:
        found = _COMPLAINT.search(line)
        return found.group(1).strip() if found else None

    def warm_up_request(self, *, generated_tokens: int) -> tuple[str, dict[str, object]]:
        body: dict[str, object] = {
            "prompt": "The quick brown fox jumps over the lazy dog, and then",
            "max_tokens": generated_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": False,
        }
        return "/v1/completions", body

    def timings_in(self, answer: bytes) -> Timings | None:
        start = answer.rfind(b'"timings"')
        if start < 0:
            return None
        figures = [
            pattern.search(answer, start)
            for pattern in (_GENERATED, _PER_SECOND, _PROMPT_MILLISECONDS, _PER_TOKEN_MILLISECONDS)
        ]
        found = [figure for figure in figures if figure is not None]
        if len(found) != len(figures):
            return None
        generated, per_second, prompt_ms, token_ms = (float(figure.group(1)) for figure in found)
        prompt, prompt_per_second = _PROMPT.search(answer, start), _PROMPT_PER_SECOND.search(answer, start)
        return Timings(
            generated_tokens=int(generated),
            tokens_per_second=per_second,
            time_to_first_token_seconds=(prompt_ms + token_ms) / 1000,
            prompt_tokens=int(prompt.group(1)) if prompt else 0,
            prompt_tokens_per_second=float(prompt_per_second.group(1)) if prompt_per_second else None,
        )


def _program_argv(program: Path, spec: EngineSpec) -> tuple[str, ...]:
    flags = ("--cache-ram", "0", "--no-ui", "--jinja", "--offline", "--metrics", "--sse-ping-interval", "1", "-lv", "3")
    unchanged = ("--fit", "off")  # it would shrink the context silently, or search for minutes for one that fits
    return (
        str(program),
        *("-m", str(spec.model), "--alias", spec.served_name),
        *("--host", "127.0.0.1", "--port", "0"),
        *("-c", str(spec.context_tokens * spec.concurrency), "-np", str(spec.concurrency)),
        *("-t", str(spec.threads), "-tb", str(spec.threads)),
        *("--load-mode", "mmap" if spec.mapped else "none"),
        *_on_devices(spec.devices),
        *flags,
        *unchanged,
        *spec.extra_args,
    )


def _on_devices(devices: tuple[str, ...]) -> tuple[str, ...]:
    if not devices:
        return ("--device", "none")
    backend = "ROCm" if is_amd(devices[0]) else "CUDA"
    named = ",".join(f"{backend}{number}" for number in range(len(devices)))
    several = ("--split-mode", "layer", "--tensor-split", ",".join("1" for _ in devices)) if len(devices) > 1 else ()
    return ("--device", named, "-ngl", "999", *several)  # more layers than any model has


def _wheel_argv(spec: EngineSpec) -> tuple[str, ...]:
    return (
        *(sys.executable, "-I", "-m", "roadstead_worker.engines.xllamacpp_server"),
        *("--model", str(spec.model), "--alias", spec.served_name),
        *("--context", str(spec.context_tokens * spec.concurrency), "--parallel", str(spec.concurrency)),
        *("--threads", str(spec.threads)),
        *(() if spec.mapped else ("--no-mmap",)),
        *(("--devices", str(len(spec.devices))) if spec.devices else ()),
        *spec.extra_args,
    )
