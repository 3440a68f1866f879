"""What an agent reads of its machine and its settings, and how little of it wakes anybody."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from roadstead_worker.agent.budget import Budget, BudgetFile
from roadstead_worker.agent.door import DoorProblem
from roadstead_worker.agent.hardware import available_memory, read_hardware
from roadstead_worker.agent.measurements import MeasurementStore
from roadstead_worker.agent.node_state import SteadyFigures
from roadstead_worker.agent.settings import NodeSettings
from roadstead_worker.contract import EngineOffer, Measurement

GIB = 1024**3
DEFAULT = Budget(memory_bytes=8 * GIB, cores=4)


def machine(root: Path, files: dict[str, str]) -> Path:
    """A file system with these files and a /proc of 16 GiB, 12 of them available."""
    meminfo = f"MemTotal: {16 * 1024**2} kB\nMemFree: 1 kB\nMemAvailable: {12 * 1024**2} kB\n"
    cpuinfo = "processor\t: 0\nflags\t\t: fpu avx2 avx512f lahf_lm\n"
    for name, content in {"proc/meminfo": meminfo, "proc/cpuinfo": cpuinfo, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


V2 = {
    "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
    "sys/fs/cgroup/memory.current": f"{3 * GIB}\n",
    "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {1 * GIB}\n",
    "sys/fs/cgroup/cpu.max": "100000 100000\n",
}
V1 = {
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GIB}\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GIB}\n",
    "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {1 * GIB}\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}
UNLIMITED_V2 = {"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}
UNLIMITED_V1 = {
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize("files", [V2, V1], ids=["cgroup v2", "cgroup v1"])
def test_the_limits_of_a_cgroup_count(tmp_path: Path, files: dict[str, str]) -> None:
    root = machine(tmp_path, files)
    hardware = read_hardware(root)
    assert (hardware.memory_bytes, hardware.cores, hardware.isa) == (4 * GIB, 1, ("avx2", "avx512f"))
    assert available_memory(root) == 2 * GIB, "the limit, less what is used, plus cache that would be given back"


@pytest.mark.parametrize("files", [V2, V1], ids=["cgroup v2", "cgroup v1"])
def test_the_limits_of_a_container_that_runs_no_engine_do_not_count(tmp_path: Path, files: dict[str, str]) -> None:
    root = machine(tmp_path, files)
    hardware = read_hardware(root, limited=False)
    assert (hardware.memory_bytes, hardware.cores) == (16 * GIB, os.cpu_count())
    assert available_memory(root, limited=False) == 12 * GIB


@pytest.mark.parametrize("files", [{}, UNLIMITED_V2, UNLIMITED_V1], ids=["none", "cgroup v2", "cgroup v1"])
def test_without_limits_the_machine_counts(tmp_path: Path, files: dict[str, str]) -> None:
    root = machine(tmp_path, files)
    hardware = read_hardware(root)
    assert (hardware.memory_bytes, hardware.cores) == (16 * GIB, len(os.sched_getaffinity(0)))
    assert available_memory(root) == 12 * GIB


def test_a_budget_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    budget = BudgetFile(path, DEFAULT)
    assert budget.current() == DEFAULT
    path.write_text('{"memory_bytes": 1000, "cores": 2}')
    assert budget.current() == Budget(memory_bytes=1000, cores=2)
    path.write_text('{"memory_bytes": 20000, "cores": 3}')
    assert budget.current() == Budget(memory_bytes=20000, cores=3)


SLIPS = ["", "{", "[]", '{"cores": 2}', '{"memory_bytes": 5, "cores": 0}', '{"memory_bytes": "5", "cores": 2}']


@pytest.mark.parametrize("slip", [*SLIPS, '{"memory_bytes": -5, "cores": 2}'])
def test_a_malformed_budget_keeps_the_last_good_one(tmp_path: Path, slip: str) -> None:
    path = tmp_path / "budget.json"
    path.write_text('{"memory_bytes": 1000, "cores": 2}')
    budget = BudgetFile(path, DEFAULT)
    good = budget.current()
    path.write_text(slip)
    assert budget.current() == good
    path.unlink()
    assert budget.current() == good


def test_figures_are_told_again_only_when_they_moved_by_a_step_or_their_basis_changed() -> None:
    figures = SteadyFigures()
    told = [figures.steady("free", value, step=10, basis="a") for value in (100, 105, 95, 89, 90, 0, 3)]
    assert told == [100, 100, 100, 89, 89, 0, 3]
    assert figures.steady("free", 5, step=10, basis="b") == 5
    figures.keep_only(set())
    assert figures.steady("free", 6, step=10, basis="b") == 6


def test_the_last_measurement_of_a_content_is_kept_over_a_restart(tmp_path: Path) -> None:
    store = MeasurementStore(tmp_path / "m")
    first = Measurement(content="c1", slot="s", memory_bytes=1, load_seconds=0.5)
    latest = first.model_copy(update={"memory_bytes": 2, "tokens_per_second": 40.0})
    other = Measurement(content="c0", slot="t", memory_bytes=3, load_seconds=1)
    for measurement in (first, latest, other):
        store.put(measurement)
    (tmp_path / "m" / "broken.json").write_text("{")
    assert store.all() == MeasurementStore(tmp_path / "m").all() == (other, latest)
    with pytest.raises(DoorProblem):
        store.put(first.model_copy(update={"content": "../../x"}))


def test_settings_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "NODE": "node-a",
        "STORE": str(tmp_path),
        "LISTEN": "127.0.0.1:7000",
        "DOOR_TOKEN_FILE": str(tmp_path / "token"),
        "SOURCE_ROOTS": "/models:/more/models",
        "HTTP_HOSTS": "Models.example, 127.0.0.1:8000",
        "ENGINE_OFFERS": json.dumps([{"engine": "LlamaCpp", "image": "x"}]),
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"ROADSTEAD_{name}", value)
    settings = NodeSettings()
    assert settings.source_roots == (Path("/models"), Path("/more/models"))
    assert settings.http_hosts == {"models.example", "127.0.0.1:8000"}
    assert settings.engine_offers == (EngineOffer(engine="LlamaCpp", image="x"),)

    assert not settings.engines_elsewhere

    monkeypatch.setenv("ROADSTEAD_MEMORY_BYTES", str(8 * GIB))
    monkeypatch.setenv("ROADSTEAD_CORES", "3")
    monkeypatch.setenv("ROADSTEAD_ENGINE_OFFERS", "[]")
    settings = NodeSettings()
    assert (settings.memory_bytes, settings.cores, settings.engine_offers) == (8 * GIB, 3, ())
    assert settings.engines_elsewhere

    for name, value in {
        "CORES": "0",
        "MEMORY_BYTES": "-1",
        "SOURCE_ROOTS": "relative",
        "LISTEN": "7000",
        "STORE": "here",
        "NODE": "",
    }.items():
        monkeypatch.setenv(f"ROADSTEAD_{name}", value)
        with pytest.raises(ValidationError):
            NodeSettings()
        monkeypatch.setenv(f"ROADSTEAD_{name}", variables.get(name, "1"))
