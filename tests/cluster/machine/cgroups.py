"""The cgroups of a cluster: who belongs to it is what is below its group, so nobody has to remember pids.

Cgroup v1, one hierarchy per controller, as the kernel here mounts them.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.machine.failures import ClusterError

_ROOT = Path("/sys/fs/cgroup")
HIERARCHIES = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd")
_MEMBERS = "freezer"
"""The hierarchy that is asked for members: nothing but us and container runtimes uses it."""
_GONE_WITHIN_SECONDS = 30.0


def demand_cgroups() -> None:
    """Raise ClusterError unless every hierarchy is there."""
    missing = [name for name in HIERARCHIES if not (_ROOT / name / "cgroup.procs").exists()]
    if missing:
        raise ClusterError(
            "NoCgroups",
            f"This host lacks the cgroup v1 hierarchies {', '.join(missing)}.",
            remedy="Use a host that mounts cgroup v1 below /sys/fs/cgroup; v2 alone is not supported.",
        )


def create(group: str) -> None:
    """Make `group` in every hierarchy, with all CPUs and memory nodes."""
    for hierarchy in HIERARCHIES:
        directory = _ROOT / hierarchy
        for part in group.split("/"):
            above, directory = directory, directory / part
            directory.mkdir(exist_ok=True)
            if hierarchy == "cpuset":
                for setting in ("cpuset.cpus", "cpuset.mems"):
                    (directory / setting).write_text((above / setting).read_text())


@contextmanager
def joined(group: str) -> Iterator[None]:
    """Be a member of `group` meanwhile: a process that is started inside belongs to it from its first breath."""
    before = _own_groups()
    try:
        for hierarchy in HIERARCHIES:
            _join(hierarchy, group)
        yield
    finally:
        for hierarchy in HIERARCHIES:
            _join(hierarchy, before[hierarchy])


def pids(group: str) -> list[int]:
    """Everyone in `group` and below it."""
    found: list[int] = []
    for members in (_ROOT / _MEMBERS / group).rglob("cgroup.procs"):
        try:
            found += [int(line) for line in members.read_text().split()]
        except OSError:
            continue  # removed by whoever made it
    return found


def own_pids(group: str) -> list[int]:
    """Everyone in `group` itself."""
    try:
        return [int(line) for line in (_ROOT / _MEMBERS / group / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def exists(group: str) -> bool:
    return any((_ROOT / hierarchy / group).exists() for hierarchy in HIERARCHIES)


def remove(group: str, *, first: int | None = None) -> None:
    """End everyone in `group` and below it, `first` before the others, then remove it.

    Raises ClusterError if something does not go.
    """
    deadline = time.monotonic() + _GONE_WITHIN_SECONDS
    while exists(group):
        _end(sorted(pids(group), key=lambda pid: pid != first), deadline)
        for hierarchy in HIERARCHIES:
            _remove_tree(_ROOT / hierarchy / group)
        if exists(group) and time.monotonic() > deadline:
            raise ClusterError(
                "CgroupStays",
                f"The cgroup {group} is still there: processes {pids(group) or 'none'}.",
                remedy="Look what these processes wait for (`cat /proc/PID/stack`), then try again.",
            )
        if exists(group):
            time.sleep(0.05)


def _own_groups() -> dict[str, str]:
    groups: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            groups[controller.removeprefix("name=")] = path.strip("/")
    return groups


def _join(hierarchy: str, group: str) -> None:
    (_ROOT / hierarchy / group / "cgroup.procs").write_text(str(os.getpid()))


def _end(members: list[int], deadline: float) -> None:
    """Kill them, and wait until they are dead: a process that ends leaves its cgroup before its namespaces."""
    handles: list[int] = []
    try:
        for pid in members:
            try:
                handles.append(os.pidfd_open(pid))
                signal.pidfd_send_signal(handles[-1], signal.SIGKILL)
            except ProcessLookupError:
                continue
        for handle in handles:
            select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
    finally:
        for handle in handles:
            os.close(handle)


def _remove_tree(directory: Path) -> None:
    for below, _, _ in os.walk(directory, topdown=False):
        try:
            Path(below).rmdir()
        except OSError:
            continue  # someone is still ending in it: the caller comes again
