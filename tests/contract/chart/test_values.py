"""What may be said to the chart and what is refused: `values/` has a file for each, its reason in the first line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.contract.chart.conftest import CHART, DIGEST, VALUES, Helm, Object, of_kind, pods_of
from tests.fixtures.control_plane import RunningControlPlane

pytestmark = pytest.mark.contract

WRONG = sorted((VALUES / "wrong").glob("*.yaml"))
RIGHT = sorted((VALUES / "right").glob("*.yaml"))


def names_the_field(said: str, path: str) -> bool:
    """Whether a refusal is about this field: as Helm's schema writes it, or as our own checks do."""
    parent, _, last = path.rpartition(".")
    pointer, above = f"'/{path.replace('.', '/')}'", f"at '/{parent.replace('.', '/')}'"
    return f"at {pointer}" in said or (above in said and f"'{last}'" in said) or f"): {path}" in said


@pytest.mark.parametrize("values", WRONG, ids=lambda path: path.stem)
def test_a_wrong_value_is_refused_by_its_path(values: Path, helm: Helm) -> None:
    path = re.match(r"# ([\w.]+): \S", values.read_text())
    assert path is not None, "the first line says which field, and why it is refused"
    otherwise_good = f"image.worker.digest={DIGEST}" if "digest" not in path[1] else "logLevel=info"

    answer = helm.run("template", "roadstead", CHART, "--set", otherwise_good, "--values", values)

    assert answer.returncode != 0
    assert names_the_field(answer.stderr, path[1]), answer.stderr


@pytest.mark.parametrize("values", RIGHT, ids=lambda path: path.stem)
def test_a_right_value_passes_lint(values: Path, helm: Helm) -> None:
    answer = helm.run("lint", "--strict", CHART, "--values", values)

    assert answer.returncode == 0, answer.stdout
    assert "[WARNING]" not in answer.stdout + answer.stderr


def test_the_defaults_pass_lint(helm: Helm) -> None:
    assert helm.run("lint", "--strict", CHART).returncode == 0


@pytest.mark.parametrize("values", RIGHT, ids=lambda path: path.stem)
def test_the_api_server_accepts_everything_that_right_values_make(
    values: Path, helm: Helm, plane: RunningControlPlane, namespace: str
) -> None:
    objects = helm.rendered(values, namespace=namespace)
    applied(plane, of_kind(objects, "ServiceAccount"))  # a Pod is not admitted without its own

    said = applied(plane, objects, "--dry-run=server")

    assert "Warning" not in said
    assert len(said.splitlines()) == len(objects)


@pytest.mark.parametrize("values", RIGHT, ids=lambda path: path.stem)
def test_every_pod_of_right_values_is_admitted_as_restricted(
    values: Path, helm: Helm, plane: RunningControlPlane, namespace: str
) -> None:
    """Of Deployments, StatefulSets and Jobs only a warning would tell; Pods are refused."""
    objects = helm.rendered(values, namespace=namespace)
    applied(plane, of_kind(objects, "ServiceAccount"))
    pods = [pod | {"metadata": pod["metadata"] | {"namespace": namespace}} for pod in pods_of(objects).values()]

    said = applied(plane, pods, "--dry-run=server")

    assert "Warning" not in said
    assert len(said.splitlines()) == len(pods)


def test_a_pod_that_is_not_restricted_would_have_been_refused(
    helm: Helm, plane: RunningControlPlane, namespace: str, objects: list[Object]
) -> None:
    applied(plane, of_kind(helm.rendered(RIGHT[0], namespace=namespace), "ServiceAccount"))
    pod = pods_of(objects)["gateway"]
    pod["metadata"]["namespace"] = namespace
    del pod["spec"]["containers"][0]["securityContext"]["capabilities"]

    said = plane.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=json.dumps(pod), check=False)

    assert "violates PodSecurity" in said


@pytest.mark.parametrize(
    ("release", "sentence"),
    [
        ("r" * 42, "cells.cell-0: the name of its StatefulSet"),
        ("a-release-with-a-name-as-long-as-this-one", "take a shorter name for the release or for the cell"),
    ],
)
def test_a_release_whose_pods_would_have_no_room_for_their_names_is_refused(
    release: str, sentence: str, helm: Helm
) -> None:
    answer = helm.run("template", release, CHART, "--values", VALUES / "right" / "one-pool.yaml")

    assert sentence in answer.stderr


def test_an_older_kubernetes_is_refused(helm: Helm) -> None:
    fleet = ("template", "roadstead", CHART, "--values", VALUES / "right" / "one-pool.yaml", "--kube-version")

    assert "is Kubernetes 1.33, and Roadstead needs 1.34" in helm.run(*fleet, "1.33.9").stderr
    assert helm.run(*fleet, "1.34.0").returncode == 0


def test_each_right_set_says_something_of_its_own() -> None:
    sets = [json.dumps(yaml.safe_load(path.read_text()), sort_keys=True) for path in RIGHT]

    assert len(RIGHT) >= 12
    assert len(set(sets)) == len(sets)
    assert all(path.read_text().startswith("# ") for path in RIGHT)


def applied(plane: RunningControlPlane, objects: list[Object], *arguments: str) -> str:
    """Server-side, as Helm 4 does; unknown and doubled fields are errors."""
    items = {"apiVersion": "v1", "kind": "List", "items": objects}
    said = plane.kubectl("apply", "--server-side", "--validate=strict", *arguments, "-f", "-", stdin=json.dumps(items))
    return said.strip()
