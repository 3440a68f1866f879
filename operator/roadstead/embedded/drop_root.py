"""Runs a command that refuses to run as root, although we are root: `python drop_root.py COMMAND…`.

PostgreSQL demands that its user is not 0 and owns its data. The first way is a user namespace in which this very user
has another number: nothing changes owner, and a clone below /root works. Where namespaces are forbidden (some
containers) the fallback is the user `nobody`; then the data change owner, and every folder above must be passable.

Kept free of imports beyond the standard library: it is on the path of every start.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_INSIDE = 1000
_NOBODY = 65534


def main(arguments: list[str]) -> None:
    """Replace this process by the command, no longer root."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getppid()
    if not _enter_user_namespace(libc):
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    # The kernel forgets this when a process changes who it is, so the supervisor's own call was in vain.
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(arguments[0], arguments)  # noqa: S606 - the command comes from our own supervisor


def namespaces_work() -> bool:
    """Try it in a child, because it cannot be undone."""
    child = os.fork()
    if child == 0:
        os._exit(0 if _enter_user_namespace(ctypes.CDLL(None, use_errno=True)) else 1)
    return os.waitpid(child, 0)[1] == 0


def give_to_nobody(directory: Path) -> None:
    """Hand a data directory to the fallback user."""
    for folder, _, names in os.walk(directory):
        for path in (folder, *(str(Path(folder) / name) for name in names)):
            os.chown(path, _NOBODY, _NOBODY, follow_symlinks=False)


def _enter_user_namespace(libc: ctypes.CDLL) -> bool:
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWUSER) != 0:
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"{_INSIDE} {group} 1")
        Path("/proc/self/uid_map").write_text(f"{_INSIDE} {user} 1")
    except OSError:
        return False
    return os.geteuid() == _INSIDE


if __name__ == "__main__":
    main(sys.argv[1:])
