"""Finds etcd, kube-apiserver, kube-controller-manager and kubectl, and builds them if nobody has them.

Looked for in `KUBEBUILDER_ASSETS`, then in a cache keyed by the pinned Go module, else built from that module
(about five minutes on two cores, once per module version).
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from roadstead.embedded.go_programs import ProgramSet, ensure_programs
from roadstead.embedded.go_toolchain import GO_MODULE
from roadstead.embedded.progress import Progress

NEWEST_MINOR = 36
"""Of Kubernetes 1: what is built here and what the tests run on."""
OLDEST_MINOR = 34
"""The oldest that is supported (docs/reference/cluster.md, Versions); `make test-kubernetes-oldest` runs on it."""
CONTROL_PLANE = ProgramSet(
    name="kubernetes",
    title=f"etcd, kube-apiserver, kube-controller-manager and kubectl 1.{NEWEST_MINOR}",
    module=GO_MODULE,
    packages={
        "etcd": "go.etcd.io/etcd/server/v3",
        "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
        "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
        "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    },
)


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
        return CONTROL_PLANE.missing(self.directory)


def find_binaries(progress: Progress) -> Binaries | None:
    """All four where somebody put them or an earlier build left them, else None."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        given = Binaries(Path(assets).expanduser().resolve())
        wrong = _unfit(given)
        if wrong is None:
            return given
        progress.say(f"KUBEBUILDER_ASSETS={assets} is not used: {wrong}")
    cached = Binaries(CONTROL_PLANE.cached)
    return None if cached.missing() else cached


def find_or_build_binaries(progress: Progress) -> Binaries:
    """All four, built if need be; raises EmbeddedFleetError with a remedy."""
    found = find_binaries(progress)
    if found is not None:
        return found
    ensure_programs([CONTROL_PLANE], progress)
    return Binaries(CONTROL_PLANE.cached)


def _unfit(binaries: Binaries) -> str | None:
    missing = binaries.missing()
    if missing:
        return f"it lacks {', '.join(missing)}"
    answer = subprocess.run(
        [binaries.kube_apiserver, "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    version = answer.stdout.strip().removeprefix("Kubernetes v")
    minor = re.match(r"1\.(\d+)\.", version)
    if minor is not None and OLDEST_MINOR <= int(minor[1]) <= NEWEST_MINOR:
        return None
    return f"its kube-apiserver is {version or 'broken'}, neither 1.{OLDEST_MINOR} nor newer up to 1.{NEWEST_MINOR}"
