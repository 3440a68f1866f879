"""Where one embedded fleet keeps what it owns.

Two places: the home (`.roadstead` by default) holds all that must survive a restart, and a short per-user runtime
directory holds sockets. They are apart because a unix socket's path may have 107 bytes, and a clone deep in somebody's
home directory would exceed it. The runtime directory's name is derived from the home's path, so two fleets never share
one, and `down` removes it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from roadstead.embedded.failures import EmbeddedFleetError

_PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class Home:
    """The directories and files of one fleet; computing a path creates nothing."""

    root: Path
    """Absolute path of the state directory, `.roadstead` unless `ROADSTEAD_HOME` says otherwise."""

    @classmethod
    def of(cls, root: Path) -> Home:
        """Name the home at `root`, which need not exist."""
        return cls(root.expanduser().resolve())

    @classmethod
    def from_environment(cls) -> Home:
        """Name the home `ROADSTEAD_HOME` points to, else `.roadstead` in the current directory."""
        return cls.of(Path(os.environ.get("ROADSTEAD_HOME") or ".roadstead"))

    @property
    def identity(self) -> str:
        """Eight hex digits that tell this home from any other of the same user."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:8]

    @property
    def runtime(self) -> Path:
        """The short directory for sockets and Ray's session files; lost at `down` and at a reboot."""
        base = os.environ.get("ROADSTEAD_RUNTIME") or "/tmp"  # noqa: S108 - private per user, checked in `create`
        return Path(base) / f"roadstead-{os.getuid()}" / self.identity

    @property
    def logs(self) -> Path:
        """One file per process, `NAME.log`."""
        return self.root / "logs"

    @property
    def data(self) -> Path:
        """What survives `down`: etcd, Postgres, Ray's GCS, the head agent's epoch, weight stores."""
        return self.root / "data"

    @property
    def secrets(self) -> Path:
        """Keys, certificates and tokens, mode 0600 each."""
        return self.root / "secrets"

    @property
    def state_file(self) -> Path:
        """What the supervisor last said of every process, replaced atomically."""
        return self.root / "state.json"

    @property
    def ports_file(self) -> Path:
        """The ports chosen once and kept."""
        return self.root / "ports.json"

    @property
    def held(self) -> Path:
        """While it has a file of a process's name, that process is not started again: for trying out an outage."""
        return self.root / "held"

    @property
    def supervisor_lock(self) -> Path:
        """Locked by the living supervisor; the lock, not the file, says that one runs."""
        return self.root / "supervisor.lock"

    @property
    def supervisor_pid(self) -> Path:
        """Pid and start time of the supervisor."""
        return self.root / "supervisor.pid"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def env_file(self) -> Path:
        """To be sourced by a shell: `. .roadstead/env`."""
        return self.root / "env"

    @property
    def api_token_file(self) -> Path:
        """The token that the operator's read API demands."""
        return self.secrets / "api.token"

    @property
    def directory_file(self) -> Path:
        """Where the operator finds agents, cells and gateways."""
        return self.root / "directory.json"

    def store(self, node: str) -> Path:
        """The weight store of a node: a short link to a directory that survives."""
        return self.runtime / node

    def log(self, process: str) -> Path:
        """The log of one process."""
        return self.logs / f"{process}.log"

    def create(self) -> None:
        """Make the directories, private to this user."""
        try:
            for directory in (self.root, self.logs, self.data, self.secrets):
                directory.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            self._create_runtime()
        except OSError as error:
            raise EmbeddedFleetError(
                "HomeUnwritable",
                f"The state directory {self.root} cannot be made: {error.strerror}.",
                remedy="Free some disk space or set ROADSTEAD_HOME to a directory you may write.",
            ) from error

    def _create_runtime(self) -> None:
        parent = self.runtime.parent
        parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        # /tmp is shared: somebody else could have made this name first and would then own our sockets.
        if parent.is_symlink() or parent.stat().st_uid != os.getuid():
            raise EmbeddedFleetError(
                "RuntimeDirectoryForeign",
                f"The directory {parent} belongs to another user.",
                remedy="Set ROADSTEAD_RUNTIME to a short directory of your own.",
            )
        self.runtime.mkdir(mode=_PRIVATE, exist_ok=True)
