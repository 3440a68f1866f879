"""Sets of programs are built together, and a Go that was borrowed for it is given back with its caches."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from roadstead.embedded import go_programs
from roadstead.embedded.go_programs import ProgramSet, ensure_programs
from roadstead.embedded.progress import Progress

# Each program it builds holds how many builds its cache has seen.
SCRIPTED_GO = """#!/bin/sh
case $1 in
env) echo "$GOCACHE" ;;
list) echo one ;;
build)
  mkdir -p "$GOCACHE"
  echo built >>"$GOCACHE/builds"
  while [ "$1" != -o ]; do shift; done
  folder=$2
  shift 2
  for package; do
    program=$folder/$(basename "${package%/v3}")
    wc -l <"$GOCACHE/builds" >"$program"
    chmod +x "$program"
  done
  ;;
esac
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    go = tmp_path / "go"
    go.write_text(SCRIPTED_GO)
    go.chmod(0o755)
    monkeypatch.setenv("ROADSTEAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(go_programs, "find_or_fetch_go", lambda *_: (go, False))
    return tmp_path / "cache"


def programs(folder: Path, name: str, **packages: str) -> ProgramSet:
    module = folder / name
    module.mkdir()
    for file in ("go.mod", "go.sum"):
        (module / file).write_text(name)
    return ProgramSet(name=name, title=name, module=module, packages=packages)


def test_sets_that_are_missing_together_share_one_build_cache(cache: Path, tmp_path: Path) -> None:
    first = programs(tmp_path, "first", etcd="example.dev/etcd/server/v3")
    second = programs(tmp_path, "second", kubelet="example.dev/cmd/kubelet", own="./own")
    ensure_programs([first, second], Progress(io.StringIO()))
    assert (first.cached / "etcd").read_text().strip() == "1"
    assert (second.cached / "kubelet").read_text().strip() == "2"
    assert second.missing(second.cached) == []
    assert not (cache / "go").exists(), "nobody asked for five gigabytes of caches"


def test_what_is_there_is_not_built_again(cache: Path, tmp_path: Path) -> None:
    first = programs(tmp_path, "first", etcd="example.dev/etcd")
    ensure_programs([first], Progress(io.StringIO()))
    output = io.StringIO()
    ensure_programs([first], Progress(output))
    assert output.getvalue() == ""


def test_a_line_of_our_own_makes_another_entry_of_the_cache(tmp_path: Path) -> None:
    one = programs(tmp_path, "one", own="./own")
    before = one.digest
    (one.module / "own").mkdir()
    (one.module / "own" / "main.go").write_text("package main\n")
    assert one.digest != before
