"""Layers: bytes that depend on the files alone, not on who wrote them, when, or where."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from tools.images.layers import File, Folder, Link, Tree, unpack, write_layer


def example(folder: Path, *, date: int) -> Tree:
    """The same files, written in another folder at another time."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/tool").write_text("#!/bin/sh\n")
    (folder / "bin/tool").chmod(0o750)
    (folder / "notes").write_text("some words")
    (folder / "notes").chmod(0o600)
    (folder / "alias").symlink_to("notes")
    for path in (folder / "bin/tool", folder / "notes", folder / "bin"):
        os.utime(path, (date, date))
    tree = Tree()
    tree.folder(folder, at="opt/example")
    return tree


def test_equal_files_give_equal_layers_wherever_and_whenever_they_were_written(tmp_path: Path) -> None:
    first = write_layer(example(tmp_path / "here", date=1_000_000), tmp_path / "first.tar")
    second = write_layer(example(tmp_path / "elsewhere/deeper", date=2_000_000), tmp_path / "second.tar")

    assert first.digest == second.digest
    assert first.size == second.size


def test_the_order_in_which_files_were_added_does_not_show(tmp_path: Path) -> None:
    names = ["usr/b", "usr/a", "etc/z"]
    layers = []
    for number, order in enumerate((names, names[::-1])):
        tree = Tree()
        for name in order:
            tree.text(name, name)
        layers.append(write_layer(tree, tmp_path / f"{number}.tar"))

    assert layers[0].digest == layers[1].digest


def test_another_byte_and_another_mode_are_another_layer(tmp_path: Path) -> None:
    entries: tuple[File | Link, ...] = (File(b"one"), File(b"two"), File(b"one", executable=True), Link("one"))
    digests = set()
    for number, entry in enumerate(entries):
        tree = Tree()
        tree.add("file", entry)
        digests.add(write_layer(tree, tmp_path / f"{number}.tar").digest)

    assert len(digests) == len(entries)


def test_everything_belongs_to_root_and_nobody_else_can_write_it(tmp_path: Path) -> None:
    tree = example(tmp_path / "files", date=1_000_000)
    tree.add("tmp", Folder(0o1777))

    write_layer(tree, tmp_path / "layer.tar")

    with tarfile.open(tmp_path / "layer.tar") as archive:
        members = {member.name: member for member in archive}
    assert list(members) == sorted(members, key=lambda name: (not members[name].isdir(), name))
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members.values()} == {(0, 0, "", 0)}
    assert members["opt/example/bin/tool"].mode == 0o755
    assert members["opt/example/notes"].mode == 0o644
    assert members["opt/example"].mode == 0o755
    assert members["opt/example/alias"].linkname == "notes"
    assert members["tmp"].mode == 0o1777


def test_files_are_dated_as_the_builder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    tree = Tree()
    tree.text("file", "words")

    write_layer(tree, tmp_path / "layer.tar")

    with tarfile.open(tmp_path / "layer.tar") as archive:
        assert archive.getmember("file").mtime == 1_700_000_000


def test_a_layer_can_be_laid_out_again(tmp_path: Path) -> None:
    write_layer(example(tmp_path / "files", date=1_000_000), tmp_path / "layer.tar")

    unpack(tmp_path / "layer.tar", tmp_path / "root")

    again = Tree()
    again.folder(tmp_path / "root", at="")
    assert write_layer(again, tmp_path / "again.tar").digest == write_layer(
        example(tmp_path / "other", date=1), tmp_path / "other.tar"
    ).digest  # fmt: skip
