"""Processes start after what they need, and a fleet that cannot start is refused before anything runs."""

from __future__ import annotations

import pytest

from roadstead.embedded.processes import FLEET_MARK, ProcessSpec, child_environment, start_levels, words_of_exit


def spec(name: str, *needs: str) -> ProcessSpec:
    return ProcessSpec(name=name, command=("true",), depends_on=needs)


def test_a_level_depends_only_on_levels_before_it() -> None:
    levels = start_levels((spec("gateway", "apiserver"), spec("apiserver", "etcd"), spec("etcd"), spec("postgres")))
    assert [[row.name for row in level] for level in levels] == [["etcd", "postgres"], ["apiserver"], ["gateway"]]


def test_a_circle_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="in a circle: a, b"):
        start_levels((spec("a", "b"), spec("b", "a"), spec("c")))


def test_a_need_that_nobody_meets_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="a depends on ghost"):
        start_levels((spec("a", "ghost"),))


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exited with 0"), (3, "exited with 3"), (-9, "ended by SIGKILL"), (-99, "ended by signal 99")],
)
def test_an_end_is_told_in_words(code: int, words: str) -> None:
    assert words_of_exit(code) == words


def test_what_would_misdirect_a_child_is_dropped_and_the_mark_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "PGHOST", "KUBECONFIG", "PYTHONPATH"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("LANG", "C.UTF-8")
    given = ProcessSpec(name="x", command=("true",), env={"KUBECONFIG": "ours"})
    environment = child_environment(given, mark="12345678")
    assert environment["KUBECONFIG"] == "ours"
    assert environment["LANG"] == "C.UTF-8"
    assert environment[FLEET_MARK] == "12345678"
    assert not {"RAY_ADDRESS", "PGHOST", "PYTHONPATH"} & set(environment)
