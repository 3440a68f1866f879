"""`roadstead logs` finds the right files and follows them over a rotation."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from roadstead.cli.log_lines import follow_logs, log_files, print_tails
from roadstead.embedded.home import Home


class Enough(Exception):
    """Ends a follower that would go on for ever."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ROADSTEAD_RUNTIME", str(tmp_path / "run"))
    home = Home.of(tmp_path / "home")
    home.create()
    home.log("etcd").write_text("1\n2\n3\n")
    home.log("operator").write_text("o\n")
    (home.logs / "audit.log").write_text("{}\n")
    return home


def test_without_a_name_all_processes_are_shown_and_the_audit_log_is_not(home: Home) -> None:
    output = io.StringIO()
    print_tails(log_files(home, None), lines=2, stream=output)
    assert output.getvalue() == "==> etcd.log <==\n2\n3\n==> operator.log <==\no\n"


def test_a_models_logs_are_those_of_its_replicas_and_then_of_its_engines(home: Home) -> None:
    serve = home.runtime / "ray/node-a/session_latest/logs/serve"
    serve.mkdir(parents=True)
    (serve / "replica_default.smollm2.3f9a1c20.node-a_slot_x.log").write_text("hello\n")
    (serve / "replica_default.smollm2-long.3f9a1c20.node-a_slot_x.log").write_text("other\n")
    (serve / "replica_default.tiny-smollm2.3f9a1c20.node-a_slot_x.log").write_text("other\n")
    engines = home.data / "store-node-a/logs"
    engines.mkdir(parents=True)
    (engines / "default.smollm2.3f9a1c20.node-a.0.log").write_text("loaded\n")
    (engines / "team-a.smollm2.77aa1c20.node-a.0.log").write_text("of a team\n")
    assert [path.read_text() for path in log_files(home, "smollm2")] == ["hello\n", "loaded\n", "of a team\n"]
    assert [path.read_text() for path in log_files(home, "team-a/smollm2")] == ["of a team\n"]
    assert [path.read_text() for path in log_files(home, "default/smollm2-long")] == ["other\n"]


def test_new_lines_are_followed_whole_and_over_a_rotation(home: Home) -> None:
    log = home.log("etcd")
    steps = iter(["4\n5", "4\n5 and the rest\n"])
    appended = [lambda: log.write_text("1\n2\n3\n" + next(steps)) for _ in range(2)] + [lambda: log.write_text("new\n")]
    turns = iter(appended)

    def wait(_: float) -> None:
        turn = next(turns, None)
        if turn is None:
            raise Enough
        turn()

    output = io.StringIO()
    with pytest.raises(Enough):
        follow_logs(home, "etcd", stream=output, wait=wait)
    assert output.getvalue() == "4\n5 and the rest\nnew\n"
