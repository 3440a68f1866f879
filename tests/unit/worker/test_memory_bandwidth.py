"""How fast memory is read: a plausible figure, measured once after each start of the machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from roadstead_worker.agent.hardware import available_memory
from roadstead_worker.agent.memory_bandwidth import memory_bandwidth

CORES = frozenset(os.sched_getaffinity(0))
MIB = 1024**2


def machine(root: Path, *, boot: str = "one", cache: str = "") -> Path:
    """With this boot id, and one cache for all cores if there is any."""
    (root / "proc/sys/kernel/random").mkdir(parents=True, exist_ok=True)
    (root / "proc/sys/kernel/random/boot_id").write_text(boot + "\n")
    for core in CORES if cache else ():
        for level, size in (("1", "32K"), ("3", cache)):
            folder = root / f"sys/devices/system/cpu/cpu{core}/cache/index{level}"
            folder.mkdir(parents=True)
            shared = "all" if level == "3" else str(core)
            for name, content in {"level": level, "size": size, "shared_cpu_list": shared}.items():
                (folder / name).write_text(content + "\n")
    return root


def test_the_figure_of_this_machine_is_plausible_and_found_within_a_second(tmp_path: Path) -> None:
    began = time.monotonic()
    found = memory_bandwidth(tmp_path / "kept.json", cores=CORES, available_bytes=available_memory(), may_measure=True)
    assert time.monotonic() - began < 5, "it is a second on a machine that has nothing else to do"
    assert found is not None
    assert 1e9 < found < 5e12


def test_it_is_kept_until_the_machine_starts_again(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text('{"boot": "one", "bytes_per_second": 12e9}')
    root = machine(tmp_path / "root")
    assert memory_bandwidth(kept, cores=CORES, available_bytes=0, may_measure=False, root=root) == 12e9
    machine(root, boot="two")
    assert memory_bandwidth(kept, cores=CORES, available_bytes=256 * MIB, may_measure=False, root=root) is None
    found = memory_bandwidth(kept, cores=CORES, available_bytes=256 * MIB, may_measure=True, root=root)
    assert found is not None
    assert found != 12e9
    assert memory_bandwidth(kept, cores=CORES, available_bytes=0, may_measure=False, root=root) == found


@pytest.mark.parametrize("content", ["", "{", '{"boot": "one"}', '{"boot": 1, "bytes_per_second": "fast"}'])
def test_a_damaged_record_is_as_none(tmp_path: Path, content: str) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(content)
    root = machine(tmp_path / "root")
    assert memory_bandwidth(kept, cores=CORES, available_bytes=0, may_measure=True, root=root) is None


def test_with_too_little_memory_to_tell_it_from_the_caches_nothing_is_told(tmp_path: Path) -> None:
    root = machine(tmp_path / "root", cache="16384K")
    kept = tmp_path / "kept.json"
    assert memory_bandwidth(kept, cores=CORES, available_bytes=120 * MIB, may_measure=True, root=root) is None
    assert memory_bandwidth(kept, cores=CORES, available_bytes=130 * MIB, may_measure=True, root=root) is not None


def test_where_it_cannot_be_kept_nothing_is_told_and_nobody_fails(tmp_path: Path) -> None:
    root = machine(tmp_path / "root", cache="1024K")
    kept = tmp_path / "no-such-folder" / "kept.json"
    assert memory_bandwidth(kept, cores=CORES, available_bytes=64 * MIB, may_measure=True, root=root) is None
