"""The chart as Helm renders it, and a real API server that knows our kinds."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from roadstead.embedded.progress import Progress
from tests.cluster.machine.helm import ensure_helm
from tests.fixtures.control_plane import RunningControlPlane, control_plane

__all__ = ["control_plane"]

CHART = Path(__file__).resolve().parents[3] / "charts" / "roadstead"
VALUES = Path(__file__).parent / "values"
DIGEST = "sha256:" + "0123456789abcdef" * 4
RELEASE = "roadstead"
TEAMS = ("team-a", "team-b")
_COUNTER = itertools.count(1)

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Helm:
    """The program; with a kubeconfig it also reaches a cluster."""

    program: Path
    kubeconfig: Path | None = None

    def __call__(self, *arguments: str | Path, check: bool = True) -> str:
        """Run it; what it said on both channels."""
        answer = self.run(*arguments)
        if check:
            assert answer.returncode == 0, answer.stderr
        return answer.stdout + answer.stderr

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.program.parent)}
        if self.kubeconfig is not None:
            environment |= {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.kubeconfig.parent)}
        return subprocess.run(
            [self.program, *arguments], capture_output=True, text=True, timeout=120, check=False, env=environment
        )

    def rendered(
        self,
        *values: Path,
        namespace: str = "roadstead",
        release: str = RELEASE,
        sets: Sequence[str] = (),
        chart: Path = CHART,
    ) -> list[Object]:
        """Every object that an install or a hook makes."""
        files = [argument for path in values for argument in ("--values", str(path))]
        given = [argument for each in sets for argument in ("--set", each)]
        answer = self.run("template", release, chart, "--namespace", namespace, *files, *given)
        assert answer.returncode == 0, answer.stderr
        return [document for document in yaml.safe_load_all(answer.stdout) if document]


@pytest.fixture(scope="session")
def helm() -> Helm:
    return Helm(ensure_helm(Progress()))


@pytest.fixture(scope="session")
def objects(helm: Helm) -> list[Object]:
    """What the least of values makes."""
    return helm.rendered(VALUES / "right" / "one-pool.yaml")


@pytest.fixture(scope="session")
def plane(control_plane: RunningControlPlane) -> RunningControlPlane:
    """An API server with what the chart takes for granted: our kinds, the teams' namespaces, a PriorityClass."""
    control_plane.kubectl("apply", "--server-side", "-f", str(CHART / "crds"))
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    for team in TEAMS:
        control_plane.kubectl("create", "namespace", team)
    control_plane.kubectl("create", "priorityclass", "fleet", "--value=1000")
    return control_plane


@pytest.fixture
def namespace(plane: RunningControlPlane) -> Iterator[str]:
    """A namespace that admits nothing but what Pod Security calls restricted."""
    name = f"chart-{next(_COUNTER)}"
    plane.kubectl("create", "namespace", name)
    labels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn", "audit")]
    plane.kubectl("label", "namespace", name, *labels)
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def pods_of(objects: Sequence[Object]) -> dict[str, Object]:
    """By component: the Pod that each workload would make."""
    found: dict[str, Object] = {}
    for each in of_kind(objects, "Deployment", "StatefulSet", "Job", "Pod"):
        template = each if each["kind"] == "Pod" else each["spec"]["template"]
        claims = [claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", ())]
        volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
        found[template["metadata"]["labels"]["app.kubernetes.io/component"]] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{each['metadata']['name']}-0",
                "labels": template["metadata"]["labels"],
                "annotations": template["metadata"].get("annotations", {}),
            },
            "spec": template["spec"] | {"volumes": [*template["spec"].get("volumes", ()), *volumes]},
        }
    return found
