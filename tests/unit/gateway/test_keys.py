"""Client keys and the two secrets."""

from __future__ import annotations

import hashlib
from pathlib import Path

from roadstead_gateway.contract import REPLICA_HEADER
from roadstead_gateway.keys import KeyRing, WatchedFile, bearer_is, parse_token


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_only_listed_keys_are_known() -> None:
    ring = KeyRing.parse(f"# ours\n\n{hashed('a')}\n  {hashed('b').upper()} team b # of May\nnonsense\n{'0' * 63}\n")
    assert len(ring) == 2
    assert ring.knows(b"Bearer a")
    assert ring.knows(b"bearer b")
    for wrong in (
        b"",
        b"a",
        b"Bearer",
        b"Bearer ",
        b"Bearer c",
        b"Basic a",
        b"Bearer a b",
        b"Bearer \xff",
        b"Bearer " * 999,
    ):
        assert not ring.knows(wrong)


def test_a_hash_is_not_a_key() -> None:
    assert not KeyRing.parse(hashed("a")).knows(f"Bearer {hashed('a')}".encode())


def test_nobody_is_known_when_there_are_no_keys() -> None:
    assert not KeyRing().knows(b"Bearer ")
    assert not KeyRing.parse("").knows(b"Bearer a")


def test_a_file_is_read_again_when_it_changes_and_kept_when_it_vanishes(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    file = WatchedFile(path, KeyRing.parse, missing=KeyRing())
    assert (file.refresh(), file.loaded, len(file.value)) == (False, False, 0)
    path.write_text(hashed("a"))
    assert (file.refresh(), file.refresh(), len(file.value)) == (True, False, 1)
    path.unlink()
    assert (file.refresh(), len(file.value)) == (False, 1)
    path.write_text("")
    assert (file.refresh(), len(file.value)) == (True, 0)


def test_a_token_that_would_break_a_header_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "token"
    file = WatchedFile(path, parse_token, missing="")
    path.write_text("good\n")
    assert file.refresh()
    path.write_text("bad\r\nX-Evil: 1")
    assert not file.refresh()
    assert file.value == "good"


def test_an_empty_token_lets_nobody_in() -> None:
    assert bearer_is("Bearer t", "t")
    assert not bearer_is("Bearer ", "")
    assert not bearer_is("", "")
    assert not bearer_is("Bearer \ud800", "t")


def test_both_contracts_name_the_replica_header_alike() -> None:
    from roadstead_worker import contract as worker

    assert REPLICA_HEADER == worker.REPLICA_HEADER
