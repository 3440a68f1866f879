"""Whatever happened to `up`, `down` leaves the host as it was; and so does `up` that is told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from roadstead.embedded.progress import Progress
from tests.cluster.machine import cgroups
from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.failures import ClusterError
from tests.cluster.machine.home import CHECKOUT, NODES, ClusterHome
from tests.cluster.machine.machines import init_pid
from tests.cluster.machine.up import down, running, up
from tests.cluster.pods import eventually

pytestmark = pytest.mark.cluster

_NAMESPACES = ("mnt", "net", "pid", "uts", "ipc", "cgroup")
_SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")
# Where programs of a node would leave something if they wrote to the host.
_FOLDERS = ("/etc", "/opt", "/run", "/usr/libexec", "/usr/lib", "/var/lib", "/var/log", "/var/run")


@dataclass(frozen=True)
class Host:
    """What a cluster could have changed on the host."""

    mounts: frozenset[str]
    interfaces: str
    settings: tuple[str, ...]
    folders: frozenset[str]

    @classmethod
    def now(cls) -> Host:
        return cls(
            mounts=frozenset(
                " ".join(line.split()[3:]) for line in Path("/proc/self/mountinfo").read_text().splitlines()
            ),
            interfaces=subprocess.run(["ip", "-brief", "address"], capture_output=True, text=True, check=True).stdout,
            settings=tuple(Path("/proc/sys", name).read_text() for name in _SETTINGS),
            folders=frozenset(str(path) for top in _FOLDERS for path in Path(top).glob("*") if path.is_dir()),
        )


@dataclass
class Watched:
    """A home, the host before, and every process and namespace that was seen of the cluster."""

    home: ClusterHome
    before: Host
    processes: set[tuple[int, str]] = field(default_factory=set)
    namespaces: dict[str, int] = field(default_factory=dict)
    """Held open by a descriptor each: the name of one that is gone is soon another's."""

    def look(self) -> None:
        own = set(_namespaces(os.getpid()))
        for pid in cgroups.pids(self.home.cgroup):
            try:
                self.processes.add((pid, _started(pid)))
                for name, path in _namespaces(pid).items():
                    if name not in own and name not in self.namespaces:
                        self.namespaces[name] = os.open(path, os.O_RDONLY)
            except OSError:
                continue

    def assert_nothing_is_left(self) -> None:
        assert not cgroups.exists(self.home.cgroup)
        assert [process for process in self.processes if _is_alive(*process)] == []
        assert _inhabited(set(self.namespaces)) == []
        assert not self.home.root.exists()
        assert not self.home.root.with_name(f"{self.home.root.name}.lock").exists()
        after = Host.now()
        assert after.mounts == self.before.mounts
        assert after.interfaces == self.before.interfaces
        assert after.settings == self.before.settings
        assert after.folders - self.before.folders == frozenset()


@pytest.fixture
def watched() -> Iterator[Watched]:
    home = ClusterHome(Path(tempfile.mkdtemp(prefix="rs-left-")) / "home")
    watched = Watched(home, Host.now())
    try:
        yield watched
    finally:
        for descriptor in watched.namespaces.values():
            os.close(descriptor)
        down(home)
        home.root.parent.rmdir()


def _started(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def _is_alive(pid: int, started: str) -> bool:
    try:
        return _started(pid) == started and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _inhabited(namespaces: set[str]) -> list[str]:
    """Every process of the host that is in one of them; the dead who wait to be reaped are in none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if not namespaces.isdisjoint(_namespaces(int(process.name))):
                found.append(f"{process.name}: {(process / 'cmdline').read_bytes()!r}")
        except OSError:
            continue
    return found


def _namespaces(pid: int) -> dict[str, Path]:
    """Path by name."""
    paths = [Path(f"/proc/{pid}/ns/{kind}") for kind in _NAMESPACES]
    return {str(path.readlink()): path for path in paths}


def _starting(home: ClusterHome) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.machine", "up"],
        cwd=CHECKOUT,
        env={**os.environ, "ROADSTEAD_CLUSTER_HOME": str(home.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _has_a_pod(home: ClusterHome) -> bool:
    return any(Path(f"/sys/fs/cgroup/freezer/{home.cgroup}").glob("node-?/kubepods/*/pod*"))


MOMENTS: dict[str, Callable[[ClusterHome], bool]] = {
    "its first cgroup": lambda home: cgroups.exists(home.cgroup),
    "its first machine": lambda home: init_pid(home, "control-plane") is not None,
    "its last machine": lambda home: init_pid(home, NODES[-1]) is not None,
    "a forwarded port": lambda home: home.kubeconfig.exists(),
    "its first pod": _has_a_pod,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_down_ends_what_an_up_that_was_killed_had_begun(watched: Watched, moment: str) -> None:
    with _starting(watched.home) as starting:
        deadline = time.monotonic() + 60
        while not MOMENTS[moment](watched.home) and time.monotonic() < deadline:
            watched.look()
            time.sleep(0.002)
        assert starting.poll() is None, "it was to be killed midway"
        starting.kill()
    watched.look()
    down(watched.home)
    assert watched.processes or moment == "its first cgroup"
    watched.assert_nothing_is_left()


def test_an_up_that_is_told_to_end_takes_everything_with_it(watched: Watched) -> None:
    with _starting(watched.home) as starting:
        assert eventually(lambda: init_pid(watched.home, NODES[-1]) is not None, within_seconds=60)
        watched.look()
        starting.send_signal(signal.SIGTERM)
        assert starting.wait(30) == 130
    watched.assert_nothing_is_left()


def test_a_folder_that_is_no_cluster_s_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").write_text("dear")
    for change in (down, lambda home: up(home, Progress())):
        with pytest.raises(ClusterError, match="is not the home of a cluster"):
            change(ClusterHome(tmp_path))
    assert (tmp_path / "letters").read_text() == "dear"


def test_a_whole_life_leaves_nothing_even_after_a_node_died(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = up(watched.home, Progress())
    watched.look()
    there = [(pid, _started(pid)) for pid in cgroups.pids(f"{watched.home.cgroup}/node-b")]
    assert len(there) > 5
    cluster.kill_node("node-b")
    assert not cgroups.exists(f"{watched.home.cgroup}/node-b")
    assert [process for process in there if _is_alive(*process)] == []
    with pytest.raises(ClusterError, match="node-b does not run"):
        cluster.in_node("node-b", ["true"])
    # The others know nothing of it yet.
    assert cluster.in_node("node-a", ["hostname"]).stdout == "node-a\n"
    assert cluster.kubectl("get", "--raw=/readyz") == "ok"
    assert running(watched.home) == Cluster(watched.home, cluster.programs)
    down(watched.home)
    watched.assert_nothing_is_left()
    assert running(watched.home) is None
