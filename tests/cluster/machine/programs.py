"""Every program a cluster runs or is run by: found in the cache, else built or fetched into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from roadstead.embedded.binaries import CONTROL_PLANE, Binaries, find_binaries
from roadstead.embedded.go_programs import ProgramSet, ensure_programs
from roadstead.embedded.progress import Progress
from tests.cluster.machine.debian import ensure_debian_programs
from tests.cluster.machine.helm import ensure_helm

NODE_PROGRAMS = ProgramSet(
    name="cluster",
    title="kubelet, kube-proxy, kube-scheduler 1.36, CoreDNS, pause and fetch",
    module=Path(__file__).resolve().parents[1] / "programs",
    packages={
        "kubelet": "k8s.io/kubernetes/cmd/kubelet",
        "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
        "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
        "coredns": "./coredns",
        "pause": "./pause",
        "fetch": "./fetch",
    },
    # A Node shows its kubelet's version, and a module fetched by Go does not know its own.
    linker_flags=(
        "-X=k8s.io/component-base/version.gitVersion=v1.36.3",
        "-X=k8s.io/component-base/version.gitMajor=1",
        "-X=k8s.io/component-base/version.gitMinor=36",
    ),
)


@dataclass(frozen=True, slots=True)
class Programs:
    """Where they are."""

    control_plane: Binaries
    node: Path
    """Folder of kubelet, kube-proxy, kube-scheduler, coredns, pause and fetch."""
    debian: Path
    """Folder that is laid out like `/`."""
    helm: Path


def ensure_programs_of_a_cluster(progress: Progress) -> Programs:
    """All of them; raises EmbeddedFleetError with a remedy. Minutes with an empty cache, else milliseconds."""
    given = find_binaries(progress)
    # In one go: they share most of what is compiled, and a borrowed Go takes its caches with it.
    ensure_programs([NODE_PROGRAMS] if given else [CONTROL_PLANE, NODE_PROGRAMS], progress)
    return Programs(
        control_plane=given or Binaries(CONTROL_PLANE.cached),
        node=NODE_PROGRAMS.cached,
        debian=ensure_debian_programs(progress),
        helm=ensure_helm(progress),
    )
