"""llama.cpp's published source, and compiling programs of it with nothing but gcc at hand.

The source comes as a locked sdist; only the `llama.cpp` folder in it is used. cmake and ninja come as locked wheels.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roadstead.embedded.progress import Progress
from tools.images.catalog import ROOT
from tools.images.failures import ImageBuildError
from tools.images.wheels import client_environment

SOURCE_LOCK: Final = ROOT / "requirements/llama-cpp.txt"
TOOLS_LOCK: Final = ROOT / "requirements/build-tools.txt"
_STEP: Final = re.compile(r"^\[(\d+)/(\d+)\]")


def version() -> str:
    """llama.cpp's build number, `b11434`."""
    return f"b{SOURCE_LOCK.read_text().partition('==')[2].partition('.')[0]}"


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


@dataclass(frozen=True, slots=True)
class Bench:
    """The unpacked source, and a folder beside it to compile in."""

    source: Path
    objects: Path
    environment: Mapping[str, str]

    @classmethod
    def prepared(cls, scratch: Path, progress: Progress) -> Bench:
        """Fetch what is needed into `scratch`; raises ImageBuildError."""
        compiler()
        progress.say(f"fetching the source of llama.cpp {version()}")
        tools = _tools(scratch / "tools")
        path = f"{tools / 'bin'}:{os.environ['PATH']}"
        return cls(_source(tools, scratch), scratch / "objects", os.environ | {"PATH": path})

    def compile(self, options: Mapping[str, str], targets: Sequence[str], progress: Progress) -> Path:
        """The folder of the finished programs; raises ImageBuildError."""
        flags = f"-ffile-prefix-map={self.source}=."
        defined = {
            **options,
            "LLAMA_BUILD_NUMBER": version().removeprefix("b"),
            "LLAMA_BUILD_COMMIT": version(),
            "CMAKE_C_FLAGS": flags,
            "CMAKE_CXX_FLAGS": flags,
        }
        _run(
            ["cmake", "-G", "Ninja", "-S", str(self.source), "-B", str(self.objects)]
            + [f"-D{name}={value}" for name, value in defined.items()],
            self.environment,
        )
        self._ninja(targets, progress)
        return self.objects / "bin"

    def strip(self, program: Path) -> None:
        """Take out the symbols."""
        _run(["strip", "--strip-unneeded", str(program)], self.environment)

    def _ninja(self, targets: Sequence[str], progress: Progress) -> None:
        command = ["nice", "-n", "10", "ninja", "-C", str(self.objects), "-j", str(os.cpu_count() or 1), *targets]
        last: list[str] = []
        with subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
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


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageBuildError(
            "EngineBuildFailed",
            f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-1000:]}",
            remedy="Check that the package index can be reached and that the disk is not full.",
        )
