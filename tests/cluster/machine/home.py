"""Where one cluster keeps what it owns, and the names that tell it from any other on the same host."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from roadstead.embedded.go_programs import cache_directory
from tests.cluster.machine.failures import ClusterError

CHECKOUT = Path(__file__).resolve().parents[3]
MACHINES = ("control-plane", "node-a", "node-b")
NODES = ("node-a", "node-b")
COVERED = ("/run", "/var/lib", "/var/log", "/dev/shm", "/sys", "/proc")
"""Places of which every machine has its own."""
_LOCK_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class ClusterHome:
    """The files of one cluster; computing a path creates nothing."""

    root: Path

    @classmethod
    def from_environment(cls) -> ClusterHome:
        """The home `ROADSTEAD_CLUSTER_HOME` points to, else `.cluster` in this checkout."""
        return cls(Path(os.environ.get("ROADSTEAD_CLUSTER_HOME") or CHECKOUT / ".cluster").expanduser().resolve())

    @property
    def cgroup(self) -> str:
        """The name of its group in every cgroup hierarchy; all its processes, and no others, are below it."""
        return f"roadstead-cluster-{hashlib.sha256(str(self.root).encode()).hexdigest()[:8]}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, for the host."""
        return self.root / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """Every request to the API server, but those of the cluster's own machinery, one JSON object a line."""
        return self.root / "logs" / "audit.log"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    def machine(self, name: str) -> Path:
        """What one machine has to itself: configuration, `/var/lib`, `/var/log`."""
        return self.root / name

    def demand_own(self) -> None:
        """Raise ClusterError if the folder holds what no cluster has put there: its end is its removal."""
        if self.root.exists() and not self._mark.exists() and any(self.root.iterdir()):
            raise ClusterError(
                "HomeForeign",
                f"{self.root} exists and is not the home of a cluster.",
                remedy="Set ROADSTEAD_CLUSTER_HOME to a folder that does not exist yet.",
            )

    @property
    def _mark(self) -> Path:
        return self.root / "cluster"

    def create(self) -> None:
        """Make the directories; the caller holds the lock."""
        for place in (self.root, CHECKOUT, cache_directory(), Path(sys.prefix).resolve(), Path(sys.base_prefix)):
            covered = next((top for top in COVERED if place.is_relative_to(top)), None)
            if covered is not None:
                raise ClusterError(
                    "PlaceCovered",
                    f"{place} is below {covered}, of which every machine of the cluster has its own.",
                    remedy="Move it, or set ROADSTEAD_CLUSTER_HOME and ROADSTEAD_CACHE to other places.",
                )
        self.root.mkdir(parents=True, exist_ok=True)
        self._mark.write_text("The home of a cluster for tests; `make cluster-down` removes it.\n")
        for directory in (self.logs, self.secrets, *(self.machine(name) for name in MACHINES)):
            directory.mkdir(parents=True, exist_ok=True)
        # Made for one cluster, its administrator's key among it.
        self.root.chmod(0o711)
        self.secrets.chmod(0o700)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One `up` or `down` at a time; the lock goes with its process, however that ends."""
        path = self.root.with_name(f"{self.root.name}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            lock = path.open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever had it before may have removed the file: a lock on what has no name keeps nobody out.
                if path.exists() and os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
                    break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ClusterError(
                        "ClusterBusy",
                        f"Another process has been starting or ending the cluster in {self.root} for two minutes.",
                        remedy="Wait for it or end it, then try again.",
                    ) from None
            lock.close()
            time.sleep(0.1)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            lock.close()
