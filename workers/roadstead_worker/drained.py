"""``python -m roadstead_worker.drained worker|agent``: the preStop of a Pod, over when the Pod may go.

Kubernetes sends SIGTERM only after this has ended, or when the grace period has. A worker waits until no process of
its own container has a lease file open: the operator has taken its slots away by then, or takes them away while this
waits. An agent waits until no lease of its node is held by anybody: whoever still serves needs it. It takes no part in
that, it only looks.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TextIO

from roadstead_worker.lease_file import LEASES_FOLDER, is_held

_LOOK_SECONDS: Final = 0.5
_WORD_EVERY_SECONDS: Final = 15.0
_PROC: Final = Path("/proc")


def leases_of_this_container(store: Path, proc: Path = _PROC) -> set[str]:
    """Names of lease files that some process here has open; a claim that waits for memory counts."""
    folder = (store / LEASES_FOLDER).resolve()
    found = set()
    for name in os.listdir(proc):  # noqa: PTH208 - Path objects cost ten times as much
        if name.isdigit():
            with suppress(OSError):  # it has ended, or is not ours
                for descriptor in (proc / name / "fd").iterdir():
                    with suppress(OSError):
                        path = descriptor.readlink()
                        if path.parent == folder and path.suffix == ".json":
                            found.add(path.name)
    return found


def leases_of_the_node(store: Path) -> set[str]:
    """Names of lease files that somebody holds, in whichever container."""
    return {path.name for path in (store / LEASES_FOLDER).glob("*.json") if is_held(path)}


def wait(held: Callable[[], set[str]], say: Callable[[str], None], *, look_seconds: float = _LOOK_SECONDS) -> None:
    """Return once nothing is held, with a word now and then about what is."""
    next_word = time.monotonic()
    while leases := held():
        if time.monotonic() >= next_word:
            say(f"waiting for {len(leases)} leases to end: {', '.join(sorted(leases))}")
            next_word = time.monotonic() + _WORD_EVERY_SECONDS
        time.sleep(look_seconds)
    say("no lease is held")


def main() -> int:
    """0 when the Pod may go; 2 when it was not understood, which lets it go as well."""
    store = os.environ.get("ROADSTEAD_STORE")
    role = sys.argv[1:]
    if store is None or role not in (["worker"], ["agent"]):
        sys.stderr.write("usage: ROADSTEAD_STORE=… python -m roadstead_worker.drained worker|agent\n")
        return 2
    look = leases_of_this_container if role == ["worker"] else leases_of_the_node
    with _log_of_the_container() as output:

        def say(words: str) -> None:
            output.write(f"preStop: {words}\n")
            output.flush()

        wait(lambda: look(Path(store)), say)
    return 0


def _log_of_the_container() -> TextIO:
    """Process 1's standard error: what a preStop writes to its own is seen by nobody."""
    try:
        return Path("/proc/1/fd/2").open("w", encoding="utf-8")
    except OSError:
        return sys.stderr


if __name__ == "__main__":
    sys.exit(main())
