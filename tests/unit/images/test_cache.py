"""The cache: made once, whole or not at all, and forgotten when nobody uses it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tools.images.cache import Cache, key_of
from tools.images.layers import Blob, Tree, write_layer


def one_file(path: Path) -> Blob:
    tree = Tree()
    tree.text("file", "words")
    return write_layer(tree, path)


def test_a_layer_is_made_once(tmp_path: Path) -> None:
    cache, made = Cache(tmp_path), []

    def make(path: Path) -> Blob:
        made.append(path)
        return one_file(path)

    assert cache.layer("own", "key", make).digest == cache.layer("own", "key", make).digest
    assert len(made) == 1
    cache.layer("own", "other", make)
    assert len(made) == 2


def test_a_step_that_fails_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def half(folder: Path) -> None:
        (folder / "part").write_text("half")
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        cache.folder("engine", "key", half)

    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    whole = cache.layer("own", "key", one_file)
    whole.path.write_bytes(whole.path.read_bytes()[:100])

    again = cache.layer("own", "key", one_file)

    assert again.digest == whole.digest
    assert again.path.stat().st_size == whole.size


def test_another_date_is_another_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    undated = cache.layer("own", "key", one_file)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")

    assert cache.layer("own", "key", one_file).digest != undated.digest


def test_what_nobody_used_for_two_weeks_is_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for key in ("old", "new"):
        cache.folder("wheels", key, lambda folder: folder.joinpath("x").touch())
    long_ago = time.time() - 15 * 86_400
    os.utime(tmp_path / "wheels-old", (long_ago, long_ago))

    cache.prune()

    assert [path.name for path in tmp_path.iterdir()] == ["wheels-new"]


def test_a_key_tells_apart_where_one_input_ends_and_the_next_begins() -> None:
    assert key_of("ab", "c") != key_of("a", "bc")
    assert key_of("ab", "c") == key_of("ab", "c")
