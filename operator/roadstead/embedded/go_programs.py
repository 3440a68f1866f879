"""Builds sets of Go programs from pinned modules into the cache, once for each pin.

No prebuilt archive is fetched: every byte comes through the Go module proxy with a checksum from `go.sum`. Two
builders never collide (a file lock), and a build that was cut off leaves nothing that looks finished (built aside, then
renamed). Sets that are missing together are built in one go: what they share is compiled once, even where Go itself is
only borrowed for the build.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from roadstead.embedded.failures import EmbeddedFleetError
from roadstead.embedded.go_failures import fetch_failure
from roadstead.embedded.go_toolchain import find_or_fetch_go, forget_wheel_go
from roadstead.embedded.progress import Progress, duration, seconds_left

_BUILD_BYTES = 5 << 30
"""Go's caches while building: 3.2 GB of objects, 1 GB of sources, and the results."""


@dataclass(frozen=True, slots=True)
class ProgramSet:
    """Programs of one pinned Go module, which are built together and lie in one folder of the cache."""

    name: str
    """Begins the folder's name."""
    title: str
    """What a person is told that is built."""
    module: Path
    """The folder of `go.mod` and `go.sum`, and of programs of our own."""
    packages: Mapping[str, str]
    """Import path by program."""
    linker_flags: tuple[str, ...] = ()
    """Beside those that every program gets: `-X` of a version."""

    @property
    def digest(self) -> str:
        """Twelve hex digits of the module: another pin, or another line of our own, is another cache entry."""
        digest = hashlib.sha256()
        for path in (self.module / "go.mod", self.module / "go.sum", *sorted(self.module.rglob("*.go"))):
            digest.update(path.read_bytes())
        digest.update(" ".join(self.linker_flags).encode())
        return digest.hexdigest()[:12]

    @property
    def cached(self) -> Path:
        """Where the programs lie once they are built."""
        return cache_directory() / f"{self.name}-{self.digest}"

    def missing(self, directory: Path) -> list[str]:
        """The programs that are not executables in `directory`."""
        return [name for name in self.packages if not os.access(directory / name, os.X_OK)]


def cache_directory() -> Path:
    """`ROADSTEAD_CACHE`, else `~/.cache/roadstead` (or what XDG says)."""
    configured = os.environ.get("ROADSTEAD_CACHE")
    if configured:
        return Path(configured).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "roadstead"


def ensure_programs(sets: Sequence[ProgramSet], progress: Progress) -> None:
    """Build those of `sets` that the cache lacks; raises EmbeddedFleetError with a remedy."""
    if not any(programs.missing(programs.cached) for programs in sets):
        return
    cache = cache_directory()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _build_lock(cache, progress):
            missing = [programs for programs in sets if programs.missing(programs.cached)]
            if missing:
                _build(missing, cache=cache, progress=progress)
    except OSError as error:
        raise EmbeddedFleetError(
            "CacheUnwritable",
            f"The cache {cache} cannot be written: {error.strerror}.",
            remedy="Free some disk space or set ROADSTEAD_CACHE to a directory you may write.",
        ) from error


@contextmanager
def _build_lock(cache: Path, progress: Progress) -> Iterator[None]:
    with (cache / "build.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                progress.update("waiting for another process that builds programs")
                time.sleep(0.5)
        yield


def _build(sets: Sequence[ProgramSet], *, cache: Path, progress: Progress) -> None:
    for leftover in cache.glob(".building-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    go, own = find_or_fetch_go(cache, progress)
    environment = _build_environment(cache, own=own)
    _demand_disk_space(go, environment)
    for programs in sets:
        _build_set(programs, go, environment=environment, progress=progress)
    if not own:
        # 5 GB that nobody asked for; a person who has Go keeps a cache on purpose, and theirs was used.
        shutil.rmtree(cache / "go", ignore_errors=True)
        forget_wheel_go(cache)


def _build_set(programs: ProgramSet, go: Path, *, environment: dict[str, str], progress: Progress) -> None:
    target = programs.cached
    partial = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    partial.chmod(0o755)
    try:
        progress.say(f"building {programs.title} from source, once")
        _run_go(programs, go, partial, environment=environment, progress=progress)
        for name, package in programs.packages.items():
            (partial / _go_name(package)).rename(partial / name)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    progress.say(f"built; kept in {target}")


def _go_name(package: str) -> str:
    """Go names a program after its package, and the major-version suffix does not count."""
    return re.sub(r"/v\d+$", "", package).rpartition("/")[2]


def _build_environment(cache: Path, *, own: bool) -> dict[str, str]:
    environment = os.environ | {
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "-mod=readonly -buildvcs=false -modcacherw",
    }
    if not own:
        environment |= {"GOCACHE": str(cache / "go" / "build"), "GOMODCACHE": str(cache / "go" / "modules")}
        environment.pop("GOROOT", None)
    return environment


def _demand_disk_space(go: Path, environment: dict[str, str]) -> None:
    answer = subprocess.run(
        [go, "env", "GOCACHE"], capture_output=True, text=True, timeout=60, check=False, env=environment, cwd="/"
    )
    place = Path(answer.stdout.strip() or "/")
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    # A warm cache needs far less than a cold one, and there is no cheap way to know: only a sure failure stops here.
    if free < _BUILD_BYTES // 4 or (free < _BUILD_BYTES and not _looks_warm(place)):
        raise EmbeddedFleetError(
            "DiskFull",
            f"Building Kubernetes programs needs about 5 GiB, and {place} has {free / (1 << 30):.1f} GiB left.",
            remedy="Free some space, or set ROADSTEAD_CACHE (and GOCACHE, if you have Go) to a larger disk.",
        )


def _looks_warm(build_cache: Path) -> bool:
    return sum(1 for _ in build_cache.glob("??/*-d")) > 3000


def _run_go(programs: ProgramSet, go: Path, output: Path, *, environment: dict[str, str], progress: Progress) -> None:
    total = _count_packages(programs, go, environment, progress)
    linked = " ".join(("-s", "-w", *programs.linker_flags))
    command = [str(go), "build", "-v", "-trimpath", f"-ldflags={linked}", "-o", f"{output}/"]
    command += programs.packages.values()
    with tempfile.TemporaryFile("w+") as log:
        with subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=programs.module) as process:
            try:
                _follow(process, log, total=total, progress=progress)
            except BaseException:
                process.terminate()
                raise
        log.seek(0)
        text = log.read()
    if process.returncode:
        raise fetch_failure(text, what=programs.title)


def _count_packages(programs: ProgramSet, go: Path, environment: dict[str, str], progress: Progress) -> int:
    """How many packages are to be compiled at most; fetches the sources, which is most of the network's part."""
    progress.update("fetching Go modules")
    command = [str(go), "list", "-deps", "-f", "{{.ImportPath}}", *programs.packages.values()]
    with tempfile.TemporaryFile("w+") as errors:
        listing = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False, env=environment, cwd=programs.module
        )
        errors.seek(0)
        if listing.returncode:
            raise fetch_failure(errors.read(), what=f"the sources of {programs.title}")
    return len(set(listing.stdout.split()))


def _follow(process: subprocess.Popen[bytes], log: IO[str], *, total: int, progress: Progress) -> None:
    started = time.monotonic()
    while process.poll() is None:
        done = os.pread(log.fileno(), 1 << 24, 0).count(b"\n")
        elapsed = time.monotonic() - started
        left = seconds_left(elapsed, done=done, total=total)
        tail = f", about {duration(left)} left" if left is not None else ""
        progress.update(f"compiling: {min(done, total)} of {total} packages{tail}")
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            continue
