"""Engine logs are read from their last lines on, over rotations, and old ones do not stay for ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from roadstead_worker.agent.engine_logs import KEPT_SECONDS, EngineLogReader, listed, log_path, prune

DAY = 24 * 3600.0
NOW = 100 * DAY


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "team.model.0a1b2c3d.node.0.log"


def rotated(log: Path) -> Path:
    return log.with_name(log.name + ".1")


def everything(reader: EngineLogReader) -> str:
    return b"".join(iter(reader.read, b"")).decode()


@pytest.fixture
def readers() -> Iterator[list[EngineLogReader]]:
    opened: list[EngineLogReader] = []
    yield opened
    for reader in opened:
        reader.close()


@pytest.mark.parametrize(
    ("before", "current", "lines", "expected"),
    [
        (None, "1\n2\n3\n", 2, "2\n3\n"),
        (None, "1\n2\n3", 2, "2\n3"),
        (None, "1\n2\n", 9, "1\n2\n"),
        (None, "1\n\n\n", 2, "\n\n"),
        (None, "1\n2\n", 0, ""),
        ("1\n2\n", "3\n", 2, "2\n3\n"),
        ("1\n2\n", "3\n4\n", 2, "3\n4\n"),
        ("1\n2\n", None, 1, "2\n"),
        ("1\n2\n", "", 1, "2\n"),
        (None, "x" * 200_000 + "\nlast\n", 1, "last\n"),
        (None, "first\n" + "x" * 200_000 + "\nlast\n", 2, "x" * 200_000 + "\nlast\n"),
    ],
)
def test_a_log_is_read_from_its_last_lines_on(
    before: str | None, current: str | None, lines: int, expected: str, readers: list[EngineLogReader], *, log: Path
) -> None:
    for path, content in ((rotated(log), before), (log, current)):
        if content is not None:
            path.write_text(content)
    readers.append(EngineLogReader(log, lines=lines))
    assert everything(readers[0]) == expected


def test_following_goes_over_a_rotation_and_loses_no_line(log: Path, readers: list[EngineLogReader]) -> None:
    log.write_text("1\n")
    reader = EngineLogReader(log, lines=10)
    readers.append(reader)
    assert everything(reader) == "1\n"
    with log.open("a") as file:
        file.write("2\n")
    log.replace(rotated(log))
    assert everything(reader) == "2\n"  # the name means nothing now: the reader keeps what it holds
    log.write_text("3\n")
    with rotated(log).open("a") as file:
        file.write("late\n")
    assert everything(reader) == "late\n3\n"
    log.unlink()
    log.write_text("begun anew\n")
    assert everything(reader) == "begun anew\n"


def test_a_log_that_begins_later_is_read_from_its_beginning(log: Path, readers: list[EngineLogReader]) -> None:
    reader = EngineLogReader(log, lines=1)
    readers.append(reader)
    assert not reader.exists
    assert reader.read() == b""
    log.write_text("1\n2\n")
    assert everything(reader) == "1\n2\n"


def test_a_link_is_not_followed(log: Path, tmp_path: Path, readers: list[EngineLogReader]) -> None:
    (tmp_path / "secret").write_text("secret\n")
    log.symlink_to(tmp_path / "secret")
    readers.append(EngineLogReader(log, lines=1))
    assert readers[0].read() == b""


@pytest.mark.parametrize("slot", ["", "../x", "a/b", "a..b", ".a", "a\0", "ä", "x" * 200])
def test_a_slot_that_could_leave_the_folder_is_refused(slot: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="slot"):
        log_path(tmp_path, slot, 0)


def put(folder: Path, slot: str, *, age_days: float, size: int = 10, name: str = ".log") -> Path:
    path = folder / f"{slot}.0{name}"
    path.write_bytes(b"x" * size)
    os.utime(path, (NOW - age_days * DAY,) * 2)
    return path


def test_logs_of_slots_that_are_gone_stay_for_a_week(tmp_path: Path) -> None:
    old, rotated_old = put(tmp_path, "old", age_days=8), put(tmp_path, "old", age_days=9, name=".log.1")
    kept = [
        put(tmp_path, "young", age_days=6),
        put(tmp_path, "young", age_days=20, name=".log.1"),
        put(tmp_path, "held", age_days=30),
    ]
    assert prune(tmp_path, held=frozenset({("held", 0)}), now=NOW, kept_bytes=1000) == 2
    assert not old.exists()
    assert not rotated_old.exists()
    assert all(path.exists() for path in kept)
    assert KEPT_SECONDS == 7 * DAY


def test_beyond_the_limit_the_oldest_go_first_and_what_is_held_stays(tmp_path: Path) -> None:
    put(tmp_path, "oldest", age_days=3, size=50)
    put(tmp_path, "middle", age_days=2, size=50)
    put(tmp_path, "youngest", age_days=1, size=50)
    put(tmp_path, "held", age_days=6, size=50)
    prune(tmp_path, held=frozenset({("held", 0)}), now=NOW, kept_bytes=110)
    assert [file.slot for file in listed(tmp_path)] == ["held", "youngest"]


def test_a_log_and_its_rotated_part_are_listed_as_one(tmp_path: Path) -> None:
    put(tmp_path, "a.b.0a1b2c3d.node", age_days=2, size=5)
    put(tmp_path, "a.b.0a1b2c3d.node", age_days=3, size=7, name=".log.1")
    (tmp_path / "readme.txt").write_text("not a log")
    (file,) = listed(tmp_path)
    assert (file.slot, file.index, file.bytes, file.modified) == ("a.b.0a1b2c3d.node", 0, 12, NOW - 2 * DAY)
    assert listed(tmp_path / "missing") == ()
