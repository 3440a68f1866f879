"""`python -m tools.llama_perplexity`: builds llama.cpp's `llama-perplexity`, which `roadstead measure-quality` runs.

From the same locked source as the engine of the images, once for each pin, into the cache where the command looks for
it. One static program that runs on any x86-64 since 2013 (AVX2): what it measures does not depend on its speed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from roadstead.cli.measuring.program import PROGRAM, built_programs
from roadstead.embedded.progress import Progress
from tools.images import engine
from tools.images.cache import Cache, key_of
from tools.images.failures import ImageBuildError
from tools.images.llama_source import SOURCE_LOCK, TOOLS_LOCK, Bench, compiler, version

_OPTIONS: Final = engine.OPTIONS | {
    "BUILD_SHARED_LIBS": "OFF",
    "GGML_BACKEND_DL": "OFF",
    "GGML_CPU_ALL_VARIANTS": "OFF",
}


def llama_perplexity(progress: Progress) -> Path:
    """The program, built unless it was before; raises ImageBuildError."""

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="llama-") as scratch:
            bench = Bench.prepared(Path(scratch), progress)
            shutil.copy2(bench.compile(_OPTIONS, [PROGRAM], progress) / PROGRAM, folder)
            bench.strip(folder / PROGRAM)
            shutil.copy(bench.source / "LICENSE", folder)

    cache = Cache(built_programs())
    with cache.locked():
        key = key_of(SOURCE_LOCK, TOOLS_LOCK, compiler(), repr(_OPTIONS))
        return cache.folder(version(), key, make) / PROGRAM


def main() -> int:
    """Exit status 1: it could not be built, and it was said why."""
    progress = Progress()
    try:
        program = llama_perplexity(progress)
    except ImageBuildError as error:
        progress.finish()
        sys.stderr.write(f"{error}\n")
        return 1
    progress.say(str(program))
    return 0


if __name__ == "__main__":
    sys.exit(main())
