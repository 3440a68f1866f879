"""A process is named by pid, start time and boot; a recycled pid is never taken for it."""

from __future__ import annotations

import os
import subprocess
import sys

from roadstead.embedded.process_table import (
    ProcessIdentity,
    ProcessRow,
    boot_id,
    descendants,
    end_all,
    identify,
    read_row,
    session_members,
)


def row(pid: int, *, parent: int = 1, session: int = 0, start: int = 100) -> ProcessRow:
    return ProcessRow(pid=pid, parent=parent, session=session or pid, start_ticks=start, zombie=False)


def leader(pid: int = 10, *, start: int = 100, boot: str | None = None) -> ProcessIdentity:
    return ProcessIdentity(pid=pid, start_ticks=start, boot_id=boot or boot_id())


def test_this_process_lives_and_one_with_another_start_does_not() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert me.alive()
    assert not me.model_copy(update={"start_ticks": me.start_ticks + 1}).alive()
    assert not me.model_copy(update={"boot_id": "another"}).alive()


def test_a_name_with_brackets_and_spaces_does_not_confuse_the_reader() -> None:
    rename = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'a) R 1 (b', 0, 0, 0)"
    code = f"{rename}; print('.', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        found = read_row(process.pid)
        assert found is not None
        assert (found.parent, found.zombie) == (os.getpid(), False)
        process.kill()


def test_a_session_is_found_after_its_leader_died() -> None:
    rows = [row(11, session=10), row(12, session=10, start=150), row(13)]
    assert [member.pid for member in session_members(leader(), rows)] == [11, 12]


def test_a_session_number_that_was_given_anew_is_left_alone() -> None:
    assert session_members(leader(start=100), [row(10, start=900), row(11, session=10, start=901)]) == []
    assert session_members(leader(start=100), [row(11, session=10, start=50)]) == []
    assert session_members(leader(boot="before the reboot"), [row(11, session=10)]) == []


def test_descendants_are_found_at_any_depth() -> None:
    rows = [row(2, parent=1), row(3, parent=2), row(4, parent=3), row(5, parent=99)]
    assert {found.pid for found in descendants(2, rows)} == {3, 4}


def test_who_ignores_sigterm_is_killed() -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('.', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)

        def find() -> list[ProcessRow]:
            found = read_row(process.pid)
            return [found] if found else []

        assert end_all(find, grace_seconds=0.1) == 1
        assert process.wait(5) == -9
