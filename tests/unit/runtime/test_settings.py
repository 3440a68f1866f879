"""Settings of the operator: what is missing or contradicts itself is told in a sentence, and ends the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from roadstead.runtime.__main__ import main
from roadstead.runtime.settings import OperatorSettings

URL = "postgresql://roadstead:secret@db.lan/ledger"
COMPLETE = {
    "ROADSTEAD_DOOR_TOKEN_FILE": "/tokens/door.token",
    "ROADSTEAD_WORKLOADS_FILE": "/etc/workloads.yaml",
    "ROADSTEAD_DATABASE_URL": URL,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)


def test_namespaces_are_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OperatorSettings().watch_namespaces == ()
    monkeypatch.setenv("ROADSTEAD_WATCH_NAMESPACES", "")
    assert OperatorSettings().watch_namespaces == ()
    monkeypatch.setenv("ROADSTEAD_WATCH_NAMESPACES", " team-a,team-b,,team-a ")
    assert OperatorSettings().watch_namespaces == ("team-a", "team-b")


def test_the_database_may_be_named_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "url"
    file.write_text(URL + "\n")
    monkeypatch.delenv("ROADSTEAD_DATABASE_URL")
    monkeypatch.setenv("ROADSTEAD_DATABASE_URL_FILE", str(file))

    address = OperatorSettings().database_address()
    assert address().host == "db.lan"
    file.write_text("postgresql://other.lan/ledger")
    assert address().host == "other.lan"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ROADSTEAD_DOOR_TOKEN_FILE": None}, "ROADSTEAD_DOOR_TOKEN_FILE: Field required\n"),
        ({"ROADSTEAD_WORKLOADS_FILE": None}, "ROADSTEAD_WORKLOADS_FILE (in a cluster) or ROADSTEAD_DIRECTORY_FILE"),
        ({"ROADSTEAD_DATABASE_URL": None}, "ROADSTEAD_DATABASE_URL is not set"),
        ({"ROADSTEAD_DATABASE_URL": "mysql://u:secret@h/x"}, "ROADSTEAD_DATABASE_URL starts with mysql://"),
        ({"ROADSTEAD_DATABASE_URL_FILE": "/none"}, "are both set: take one of them away"),
        (
            {"ROADSTEAD_DATABASE_URL": None, "ROADSTEAD_DATABASE_URL_FILE": "/none"},
            "ROADSTEAD_DATABASE_URL_FILE /none cannot be read: No such file or directory\n",
        ),
    ],
)
def test_what_is_wrong_is_told_and_no_secret_with_it(
    change: dict[str, str | None],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in change.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)

    assert main() == 2

    said = capsys.readouterr().err
    assert sentence in said
    assert "secret" not in said
