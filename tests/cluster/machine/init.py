"""Process 1 of a machine: makes its private places, then starts its services, keeps them up and reaps orphans.

Run as `python -m tests.cluster.machine.init SPEC` inside new namespaces. Whatever ends it ends the machine: the kernel
kills every process of the tree, and what was mounted or configured in its namespaces goes with them.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.cluster.machine.cgroups import HIERARCHIES

READY = Path("/run/machine-ready")
"""There once the machine's places, groups and network are its own."""
_RESTART_SECONDS = 1.0
_LOOK_SECONDS = 0.05
# What a kubelet demands of the kernel. It ends if it has to change them and cannot; the host's stay what they are.
_KUBELET_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A program that runs as long as its machine does."""

    name: str
    """Its log is `NAME.log`."""
    command: tuple[str, ...]
    environment: dict[str, str]
    after: str = ""
    """Not before this answers: `HOST:PORT`, `https://HOST:PORT` of an API server, or a path that exists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """Everything process 1 is told."""

    name: str
    directory: Path
    logs: Path
    services: tuple[Service, ...]
    setup: tuple[tuple[str, ...], ...] = field(default=())
    """Commands for the network, in order."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str, indent=2)

    @classmethod
    def from_json(cls, text: str) -> MachineSpec:
        data = json.loads(text)
        services = tuple(Service(**{**each, "command": tuple(each["command"])}) for each in data["services"])
        return cls(
            name=data["name"],
            directory=Path(data["directory"]),
            logs=Path(data["logs"]),
            services=services,
            setup=tuple(tuple(command) for command in data["setup"]),
        )


def main() -> None:
    """Become the machine; never returns."""
    spec = MachineSpec.from_json(Path(sys.argv[1]).read_text())
    # Blocked, both are kept for `sigtimedwait`, where they end the pause.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    socket.sethostname(spec.name)
    _private_places(spec)
    _cgroup_mounts()
    _kernel_settings(spec)
    for command in (("ip", "link", "set", "lo", "up"), *spec.setup):
        _do(*command)
    READY.touch()
    _serve(spec)


def _private_places(spec: MachineSpec) -> None:
    """Of /run, /var/lib and /var/log the machine has its own, and what is mounted below them is seen by pods."""
    _do("mount", "--make-rshared", "/")
    for place in ("/var/lib", "/var/log"):
        own = spec.directory / place.strip("/")
        own.mkdir(parents=True, exist_ok=True)
        _do("mount", "--bind", str(own), place)
        # A peer group of its own: else each mount below it would show a second time below `own`.
        _do("mount", "--make-private", place)
        _do("mount", "--make-shared", place)
    for place in ("/run", "/dev/shm"):
        _do("mount", "-t", "tmpfs", "tmpfs", place)


def _cgroup_mounts() -> None:
    """As a machine sees them whose root group is the one it was put into."""
    root = Path("/sys/fs/cgroup")
    _do("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(root))
    for hierarchy in HIERARCHIES:
        (root / hierarchy).mkdir()
        options = f"none,name={hierarchy}" if hierarchy == "systemd" else hierarchy
        _do("mount", "-t", "cgroup", "-o", options, "cgroup", str(root / hierarchy))


def _kernel_settings(spec: MachineSpec) -> None:
    """Only those of the network are the machine's own; the others are the host's, and read-only."""
    _do("mount", "--bind", "/proc/sys", "/proc/sys")
    _do("mount", "--bind", "/proc/sys/net", "/proc/sys/net")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for name, value in _KUBELET_SETTINGS.items():
        setting = Path("/proc/sys", name)
        if setting.read_text().strip() != value:
            shown = spec.directory / name.replace("/", ".")
            shown.write_text(f"{value}\n")
            _do("mount", "--bind", str(shown), str(setting))
    _do("mount", "-o", "remount,bind,ro", "/proc/sys")


def _serve(spec: MachineSpec) -> None:
    running: dict[int, str] = {}
    not_before = dict.fromkeys((service.name for service in spec.services), 0.0)
    while True:
        waiting = [service for service in spec.services if service.name not in running.values()]
        for service in waiting:
            if time.monotonic() >= not_before[service.name] and _answers(service.after):
                running[_start(service, spec.logs)] = service.name
        pause = _LOOK_SECONDS if waiting else 3600.0
        received = signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, pause)
        if received is not None and received.si_signo == signal.SIGTERM:
            return
        for pid in _reaped():
            name = running.pop(pid, None)
            if name is not None:
                not_before[name] = time.monotonic() + _RESTART_SECONDS
                print(f"{name} ended and is started again", flush=True)  # noqa: T201 - the machine's own log


def _start(service: Service, logs: Path) -> int:
    log = os.open(logs / f"{service.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        return os.posix_spawn(
            service.command[0],
            service.command,
            service.environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
            setsid=True,
            setsigmask=[],
        )
    finally:
        os.close(log)


def _answers(condition: str) -> bool:
    if not condition or condition.startswith("/"):
        return not condition or Path(condition).exists()
    if condition.startswith("https:"):
        return _is_ready(condition.removeprefix("https://"))
    host, port = condition.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=0.2).close()
    except OSError:
        return False
    return True


def _is_ready(address: str) -> bool:
    """Whether an API server has made the roles without which it would turn away whoever comes early."""
    # Nothing secret is asked, and everybody may ask it.
    connection = http.client.HTTPSConnection(address, timeout=1, context=ssl._create_unverified_context())  # noqa: S323
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _reaped() -> list[int]:
    found: list[int] = []
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append(pid)


def _do(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
