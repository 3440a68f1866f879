"""Programs of a node that Debian has: fetched by apt, whose indexes are signed, and unpacked into the cache.

Nothing is installed: no package script runs and the host's own packages stay as they are. The libraries that the
programs need beyond the C library come along, so it does not matter what the host has.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from roadstead.embedded.go_programs import cache_directory
from roadstead.embedded.progress import Progress
from tests.cluster.machine.failures import ClusterError

PACKAGES = ("busybox-static", "containerd", "containernetworking-plugins", "nftables", "runc")
_LIBRARIES = "/usr/lib/x86_64-linux-gnu"
_OF_EVERY_HOST = ("libc6", "gcc-12-base", "libgcc-s1", "netbase")


def ensure_debian_programs(progress: Progress) -> Path:
    """The folder they lie in, as below `/`."""
    # Keyed by what is asked for: versions are the host's, whose apt stays with one release of Debian.
    target = cache_directory() / f"debian-{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:12]}"
    if target.is_dir():
        return target
    progress.say("fetching containerd, runc, CNI plugins and nft from Debian, once")
    partial = Path(tempfile.mkdtemp(prefix=".debian-", dir=_made(target.parent)))
    try:
        for package in _fetch(partial):
            subprocess.run(["dpkg-deb", "-x", package, partial / "root"], check=True)
        (partial / "root").rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def environment(root: Path) -> dict[str, str]:
    """What makes the programs below `root` run."""
    places = [f"{root}/usr/sbin", f"{root}/usr/bin", "/usr/local/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    return {"PATH": ":".join(places), "LD_LIBRARY_PATH": f"{root}{_LIBRARIES}", "HOME": "/root"}


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _fetch(directory: Path) -> list[Path]:
    try:
        wanted = _with_dependencies()
    except subprocess.CalledProcessError:
        wanted = []
    if not set(PACKAGES) <= set(wanted):
        _apt("apt-get", "update", directory=directory)
        wanted = _with_dependencies()
    # apt drops its rights to `_apt` while fetching, which must be able to write here.
    directory.chmod(0o755)
    _apt("apt-get", "download", *wanted, directory=directory)
    return sorted(directory.glob("*.deb"))


def _with_dependencies() -> list[str]:
    hidden = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    command = ["apt-cache", "depends", "--recurse", *(f"--no-{relation}" for relation in hidden), *PACKAGES]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    # Names of packages stand at the margin, virtual ones in brackets.
    names = {line for line in answer.stdout.splitlines() if line[:1].isalnum()}
    return sorted(names - set(_OF_EVERY_HOST))


def _apt(*command: str, directory: Path) -> None:
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    if answer.returncode:
        raise ClusterError(
            "DebianUnreachable",
            f"`{' '.join(command[:2])}` failed, which brings the programs of a node.",
            remedy="Check that this host is a Debian 12 whose apt works, and try again.",
            log_tail="\n".join((answer.stdout + answer.stderr).splitlines()[-15:]),
        )
