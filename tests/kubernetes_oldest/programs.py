"""The control plane of the oldest Kubernetes that is supported, built as the newest is, from a pinned module."""

from __future__ import annotations

from pathlib import Path

from roadstead.embedded.binaries import CONTROL_PLANE, OLDEST_MINOR
from roadstead.embedded.go_programs import ProgramSet

OLDEST = ProgramSet(
    name="kubernetes-oldest",
    title=f"etcd, kube-apiserver, kube-controller-manager and kubectl 1.{OLDEST_MINOR}",
    module=Path(__file__).parent / "go_module",
    packages=CONTROL_PLANE.packages,
)
