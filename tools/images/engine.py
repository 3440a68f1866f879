"""Builds `llama-server` of llama.cpp from its published source, once for each pin.

The source comes as a locked sdist; only the `llama.cpp` folder in it is used. The engine is a small program with shared
libraries beside it, and one library for each kind of x86-64 processor, of which it loads the best that the machine can
run. Of llama.cpp's fourteen kinds the seven are built that differ in what they can do: each costs 40 s of a core.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from roadstead.embedded.progress import Progress, duration
from tools.images.catalog import LLAMA_FOLDER, ROOT
from tools.images.failures import ImageBuildError
from tools.images.layers import File, Link, Tree
from tools.images.wheels import client_environment

SOURCE_LOCK: Final = ROOT / "requirements/llama-cpp.txt"
TOOLS_LOCK: Final = ROOT / "requirements/build-tools.txt"
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
_STEP: Final = re.compile(r"^\[(\d+)/(\d+)\]")


def version() -> str:
    """llama.cpp's build number, `b11434`."""
    return f"b{SOURCE_LOCK.read_text().partition('==')[2].partition('.')[0]}"


def inputs() -> tuple[str | Path, ...]:
    """All that the result depends on."""
    return SOURCE_LOCK, TOOLS_LOCK, compiler(), repr(OPTIONS), repr(VARIANTS)


def compiler() -> str:
    """Which gcc builds it: its version is part of what the result depends on."""
    gcc = shutil.which("gcc")
    if gcc is None or shutil.which("g++") is None:
        raise ImageBuildError(
            "CompilerMissing",
            "llama.cpp is built from source, and there is no gcc and g++ here.",
            remedy="On Debian: apt-get install build-essential",
        )
    return subprocess.run([gcc, "--version"], capture_output=True, text=True, check=True).stdout.partition("\n")[0]


def build(target: Path, scratch: Path, progress: Progress) -> None:
    """Write `llama-server` and its libraries into `target`."""
    started = time.monotonic()
    compiler()
    progress.say(f"fetching the source of llama.cpp {version()}")
    tools = _tools(scratch / "tools")
    source = _source(tools, scratch)
    _keep_variants(source / "ggml/src/CMakeLists.txt")
    objects = scratch / "objects"
    flags = f"-ffile-prefix-map={source}=."
    number = version().removeprefix("b")
    options = OPTIONS | {
        "LLAMA_BUILD_NUMBER": number,
        "LLAMA_BUILD_COMMIT": version(),
        "CMAKE_C_FLAGS": flags,
        "CMAKE_CXX_FLAGS": flags,
    }
    environment = os.environ | {"PATH": f"{tools / 'bin'}:{os.environ['PATH']}"}
    _run(
        ["cmake", "-G", "Ninja", "-S", str(source), "-B", str(objects)]
        + [f"-D{name}={value}" for name, value in options.items()],
        environment,
    )
    _compile(objects, environment, progress)
    for path in sorted((objects / "bin").iterdir()):
        if path.name == "llama-server" or ".so" in path.name:
            shutil.copy2(path, target / path.name, follow_symlinks=False)
            if not path.is_symlink():
                _run(["strip", "--strip-unneeded", str(target / path.name)], environment)
    shutil.copy(source / "LICENSE", target / "LICENSE")
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


def _tools(environment: Path) -> Path:
    """An environment with cmake and ninja, so that only the compiler must be there; setuptools is what pip needs."""
    _run([sys.executable, "-m", "venv", str(environment)], os.environ)
    pip = [str(environment / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(TOOLS_LOCK)], os.environ)
    return environment


def _source(tools: Path, scratch: Path) -> Path:
    downloads = scratch / "download"
    command = [
        *(str(tools / "bin/python"), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--no-build-isolation", "--require-hashes", "--no-binary", ":all:"),
        *("-d", str(downloads), "-r", str(SOURCE_LOCK)),
    ]
    _run(command, client_environment())
    with tarfile.open(next(downloads.glob("*.tar.gz"))) as archive:
        archive.extractall(downloads, filter="data")
    return next(downloads.glob("*/llama.cpp"))


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


def _compile(objects: Path, environment: Mapping[str, str], progress: Progress) -> None:
    command = ["nice", "-n", "10", "ninja", "-C", str(objects), "-j", str(os.cpu_count() or 1), "llama-server"]
    last: list[str] = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            last = [*last[-20:], line]
            if step := _STEP.match(line):
                progress.update(f"compiling llama.cpp: {step[1]} of {step[2]}")
    if process.returncode:
        raise ImageBuildError(
            "EngineBuildFailed",
            f"llama.cpp {version()} did not compile: {''.join(last)[-1500:]}",
            remedy="If it ended without a word, it ran out of memory: 2 GiB for each core are enough.",
        )


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageBuildError(
            "EngineBuildFailed",
            f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-1000:]}",
            remedy="Check that the package index can be reached and that the disk is not full.",
        )
