"""The last steps between a replica and its engine: run as a script, it ties and binds itself, then becomes it.

Not a ``preexec_fn``, which may deadlock in a process with Ray's many threads. Standard library only and run with ``-I
-S``, so it costs 20 ms. The engine afterwards
- dies with the thread that started it (PR_SET_PDEATHSIG; that thread is the replica's event loop, which lives as long
  as the replica), so that a killed replica leaves no engine that holds memory unseen;
- can gain no privileges (no_new_privs);
- is the first that the kernel ends when memory runs out, before the raylet and its replicas;
- sees, where the kernel has Landlock, only system files, its own model and its own temporary folder. A parser exploit
  in a model file must not reach tokens, other models or the store.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_OUT_OF_MEMORY_SCORE: Final = "1000"
"""The highest there is: above that of replicas, which Ray sets (see ``ray/command.py``)."""

_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_ADD_RULE: Final = 445
_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_VERSION_FLAG: Final = 1
_RULE_PATH_BENEATH: Final = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIRECTORY = 1, 2, 4, 8
_READ: Final = _EXECUTE | _READ_FILE | _READ_DIRECTORY
_FILE_RIGHTS: Final = _EXECUTE | _WRITE_FILE | _READ_FILE
_ALL_VERSION_1: Final = (1 << 13) - 1

SYSTEM_PATHS: Final = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/sys", "/opt", "/nix/store")
DEVICES: Final = "/dev"


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    with suppress(FileNotFoundError, PermissionError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            granted = rights if Path(path).is_dir() else rights & _FILE_RIGHTS
            attribute = ctypes.create_string_buffer(struct.pack("=Qi", granted, descriptor))
            libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, attribute, 0)
        finally:
            os.close(descriptor)


def confine(libc: ctypes.CDLL, *, readable: Iterable[str], writable: Iterable[str]) -> bool:
    """Allow this process no file but these, for good. False where the kernel has no Landlock."""
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION_FLAG)
    if version < 1:
        return False
    attribute = ctypes.create_string_buffer(struct.pack("=Q", _ALL_VERSION_1))
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, attribute, 8, 0)
    if ruleset < 0:
        return False
    for path in readable:
        _allow(libc, ruleset, path, _READ)
    for path in writable:
        _allow(libc, ruleset, path, _ALL_VERSION_1)
    failed = libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return not failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="engine_launcher")
    parser.add_argument("--parent", required=True, type=int, help="process id of the replica")
    parser.add_argument("--readable", action="append", default=[])
    parser.add_argument("--writable", action="append", default=[])
    parser.add_argument("--confine", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
    libc = ctypes.CDLL(None, use_errno=True)
    _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != chosen.parent:
        sys.exit("the replica ended while its engine was being started")
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY_SCORE)
    if chosen.confine:
        readable = (*SYSTEM_PATHS, *chosen.readable)
        if not confine(libc, readable=readable, writable=(DEVICES, *chosen.writable)):
            sys.stderr.write("engine_launcher: Landlock is not in this kernel, the engine can read what its user can\n")
    os.execve(command[0], command, os.environ)  # noqa: S606 - no shell: the replica chose this command


if __name__ == "__main__":
    main()
