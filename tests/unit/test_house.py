"""What the folders promise: where packages may be, what may import what, and nothing of anyone's own machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("operator", "workers", "migrations")
TEXT = (
    ".cfg",
    ".go",
    ".ini",
    ".jinja",
    ".json",
    ".mako",
    ".md",
    ".mod",
    ".py",
    ".sh",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
)
KEPT_BY_TOOLS = {
    ".git",
    ".venv",
    ".roadstead",
    ".cluster",
    ".cluster-logs",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
}


def files_of_ours() -> Iterator[Path]:
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in KEPT_BY_TOOLS]
        yield from (Path(folder) / name for name in names)


def test_operator_and_workers_are_folders_and_not_packages() -> None:
    """An ``operator/__init__.py`` would shadow the standard library's ``operator``: no Python would start here."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not (ROOT / "workers" / "__init__.py").exists()


def test_no_module_is_called_operator() -> None:
    assert [path for path in files_of_ours() if path.name == "operator.py"] == []


def test_python_started_in_this_folder_still_has_its_own_operator_module() -> None:
    question = "import operator; print(operator.__file__)"

    answer = subprocess.run(
        [sys.executable, "-c", question], cwd=ROOT, env={"PYTHONPATH": "."}, capture_output=True, text=True, check=True
    )

    assert not Path(answer.stdout.strip()).is_relative_to(ROOT / "operator")


LOCKS = [
    *sorted((ROOT / "requirements").glob("*.txt")),
    ROOT / "operator/roadstead/embedded/go_module/toolchain.txt",
]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_pins_by_hash_and_holds_no_address(lock: Path) -> None:
    text = lock.read_text()
    pins = re.findall(r"^[a-z0-9].*$", text, flags=re.MULTILINE)

    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
    assert pins
    assert all("==" in pin and pin.endswith("\\") for pin in pins)


def test_no_file_names_a_path_of_someones_own_machine() -> None:
    own = re.compile(r"(?<![\w.}-])/(work|root|home|Users)/\w")

    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files_of_ours()
        if path.suffix in TEXT or path.name in {"Makefile", "run"}
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if own.search(line)
    ]

    assert found == []


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("operator/roadstead/planner/planted.py", "import asyncio", "Deciding is pure"),
        ("operator/roadstead/domain/planted.py", "import roadstead.planner", "import downwards only"),
        ("operator/roadstead/services/planted.py", "import roadstead_worker.agent", "only their contracts"),
        ("workers/roadstead_weights/planted.py", "import roadstead_worker.contract", "needs nothing else of ours"),
        ("workers/roadstead_gateway/planted.py", "import roadstead.domain", "stands alone"),
    ],
)
def test_an_import_against_the_layers_is_caught(module: str, line: str, contract: str, tmp_path: Path) -> None:
    for source in SOURCES:
        shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    agent = tmp_path / "workers/roadstead_worker/agent"
    if not agent.exists():
        agent.mkdir()
        (agent / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / module).write_text(f"{line}\n")

    lint = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(str(tmp_path / source) for source in SOURCES), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert lint.returncode != 0
    assert [row for row in lint.stdout.splitlines() if contract in row and "BROKEN" in row], lint.stdout
