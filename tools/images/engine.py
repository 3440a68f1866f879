"""Builds `llama-server` of llama.cpp from its published source, once for each pin.

The engine is a small program with shared libraries beside it, and one library for each kind of x86-64 processor, of
which it loads the best that the machine can run. Of llama.cpp's fourteen kinds the seven are built that differ in what
they can do: each costs 40 s of a core.
"""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Final

from roadstead.embedded.progress import Progress, duration
from tools.images.catalog import LLAMA_FOLDER
from tools.images.failures import ImageBuildError
from tools.images.layers import File, Link, Tree
from tools.images.llama_source import SOURCE_LOCK, TOOLS_LOCK, Bench, compiler, version

VARIANTS: Final = ("x64", "haswell", "alderlake", "skylakex", "icelake", "zen4", "sapphirerapids")
"""SSE2 · AVX2 · AVX-VNNI · AVX-512 · and its VNNI · and its BF16 · AMX."""
OPTIONS: Final = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "ON",
    "GGML_BACKEND_DL": "ON",
    "GGML_NATIVE": "OFF",
    "GGML_CPU_ALL_VARIANTS": "ON",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",  # it would be downloaded
    "LLAMA_OPENSSL": "OFF",  # it listens on loopback and fetches nothing
    "LLAMA_SUBPROCESS": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "CMAKE_INSTALL_RPATH": "$ORIGIN",
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
    "CMAKE_DISABLE_FIND_PACKAGE_Git": "ON",
    "GIT_EXECUTABLE": "GIT_EXECUTABLE-NOTFOUND",
}
_VARIANT_LINE: Final = re.compile(r"^ *ggml_add_cpu_backend_variant\((\w+)[^\n]*\n", re.MULTILINE)
_X86: Final = re.compile(r'GGML_SYSTEM_ARCH STREQUAL "x86"\)\n *ggml_add_cpu.*?elseif\(GGML_SYSTEM_ARCH', re.DOTALL)


def inputs() -> tuple[str | Path, ...]:
    """All that the result depends on."""
    return SOURCE_LOCK, TOOLS_LOCK, compiler(), repr(OPTIONS), repr(VARIANTS)


def build(target: Path, scratch: Path, progress: Progress) -> None:
    """Write `llama-server` and its libraries into `target`."""
    started = time.monotonic()
    bench = Bench.prepared(scratch, progress)
    _keep_variants(bench.source / "ggml/src/CMakeLists.txt")
    programs = bench.compile(OPTIONS, ["llama-server"], progress)
    for path in sorted(programs.iterdir()):
        if path.name == "llama-server" or ".so" in path.name:
            shutil.copy2(path, target / path.name, follow_symlinks=False)
            if not path.is_symlink():
                bench.strip(target / path.name)
    shutil.copy(bench.source / "LICENSE", target / "LICENSE")
    progress.say(f"llama.cpp {version()} built in {duration(time.monotonic() - started)}")


def engine_tree(built: Path) -> Tree:
    """The engine at its place in the image."""
    tree = Tree()
    for path in sorted(built.iterdir()):
        place = f"{LLAMA_FOLDER}/{path.name}"
        if path.name == "LICENSE":
            tree.add("usr/share/doc/llama.cpp/copyright", File(path))
        elif path.is_symlink():
            tree.add(place, Link(str(path.readlink())))
        else:
            tree.add(place, File(path, executable=True))
    return tree


def _keep_variants(listing: Path) -> None:
    text = listing.read_text()
    part = _X86.search(text)
    named = set(_VARIANT_LINE.findall(part[0])) if part else set()
    if part is None or not named.issuperset(VARIANTS):
        raise ImageBuildError(
            "EngineSourceChanged",
            f"llama.cpp {version()} no longer lists its x86-64 variants as the builder knows them.",
            remedy="Compare VARIANTS in tools/images/engine.py with ggml/src/CMakeLists.txt of that version.",
        )
    kept = _VARIANT_LINE.sub(lambda line: line[0] if line[1] in VARIANTS else "", part[0])
    listing.write_text(text.replace(part[0], kept))
