"""The control plane of the oldest Kubernetes that is supported, built as the newest is, from a pinned module."""

from __future__ import annotations

from pathlib import Path

from roadstead.embedded.binaries import CONTROL_PLANE, OLDEST_MINOR
from roadstead.embedded.go_programs import ProgramSet

_VERSION = f"1.{OLDEST_MINOR}.4"
_PACKAGE = "k8s.io/component-base/version"

OLDEST = ProgramSet(
    name="kubernetes-oldest",
    title=f"etcd, kube-apiserver, kube-controller-manager and kubectl {_VERSION}",
    module=Path(__file__).parent / "go_module",
    packages=CONTROL_PLANE.packages,
    # A module fetched by Go does not know its own version, and this one has to prove that it is the oldest.
    linker_flags=(
        f"-X={_PACKAGE}.gitVersion=v{_VERSION}",
        f"-X={_PACKAGE}.gitMajor=1",
        f"-X={_PACKAGE}.gitMinor={OLDEST_MINOR}",
    ),
)
