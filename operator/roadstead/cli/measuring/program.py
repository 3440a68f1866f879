"""Finding `llama-perplexity`, which does the measuring, and asking which llama.cpp it is of."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roadstead.cli.failures import CommandError
from roadstead.embedded.go_programs import cache_directory

PROGRAM: Final = "llama-perplexity"
_VERSION: Final = re.compile(r"version: (?:[\w.-]+ \(build )?(\d+)\b")
"""Builds have said `version: 11434 (…)`, and say `version: 0.6.0-dev (build 11434, …)`."""
_ANSWER_SECONDS: Final = 30
_REMEDY: Final = (
    f"Install llama.cpp, or build it in a clone of Roadstead by `make {PROGRAM}`; or name it by --{PROGRAM} PATH."
)


@dataclass(frozen=True, slots=True)
class Program:
    """One that answers."""

    path: Path
    version: str
    """llama.cpp's build, `b11434`."""


def built_programs() -> Path:
    """Where `make llama-perplexity` puts what it builds, a folder for each version."""
    return cache_directory() / PROGRAM


def find_program(named: Path | None) -> Program:
    """The one that was named, else that on PATH, else the one built last; ``CommandError`` ``ToolMissing``."""
    path = named or _on_path() or _built_last()
    if path is None:
        raise CommandError("ToolMissing", f"There is no {PROGRAM} on PATH, and none was built here.", remedy=_REMEDY)
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, timeout=_ANSWER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        why = (isinstance(error, OSError) and error.strerror) or "it does not answer"
        raise CommandError("ToolMissing", f"{path} cannot be run: {why}.", remedy=_REMEDY) from error
    found = _VERSION.search((answer.stdout + answer.stderr).decode(errors="replace"))
    if found is None:
        raise CommandError("ToolMissing", f"{path} is no {PROGRAM}: it tells no version.", remedy=_REMEDY)
    return Program(path, f"b{found[1]}")


def _on_path() -> Path | None:
    found = shutil.which(PROGRAM)
    return Path(found) if found else None


def _built_last() -> Path | None:
    built = built_programs().glob(f"b*/{PROGRAM}")
    return max(built, key=lambda each: each.parent.stat().st_mtime, default=None)
