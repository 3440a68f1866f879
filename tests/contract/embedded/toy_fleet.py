"""A supervisor over processes of a few lines, in a process of its own: it adopts orphans and reaps whatever ends.

Run as ``python toy_fleet.py HOME``. ``restless`` leaves an orphan in a session of its own, as Ray's agents do.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from roadstead.embedded.home import Home
from roadstead.embedded.processes import ProcessSpec, ReadyCheck
from roadstead.embedded.state import end_leftovers, read_state
from roadstead.embedded.supervisor import Supervisor

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
LEAVE_AN_ORPHAN = "import subprocess, time; subprocess.Popen(['setsid', 'sleep', '601'])"
RESTLESS = f"{LEAVE_AN_ORPHAN}; print('up', flush=True); time.sleep(600)"


def specs(home: Home) -> tuple[ProcessSpec, ...]:
    """Each is ready once it has said so: not before it has set how it takes signals."""

    def said_up(name: str) -> ReadyCheck:
        async def check() -> str | None:
            log = home.log(name)
            return None if log.exists() and "up" in log.read_text() else "it has said nothing yet"

        return check

    return (
        ProcessSpec(name="first", command=("sleep", "600")),
        ProcessSpec(name="once", command=("true",), depends_on=("first",), one_shot=True),
        ProcessSpec(
            name="restless", command=(sys.executable, "-c", RESTLESS), depends_on=("once",), ready=said_up("restless")
        ),
        ProcessSpec(
            name="stubborn",
            command=(sys.executable, "-c", STUBBORN),
            depends_on=("restless",),
            ready=said_up("stubborn"),
            stop_within_seconds=0.3,
        ),
        ProcessSpec(name="hopeless", command=("sh", "-c", "echo no such harbour; exit 3"), one_shot=True),
    )


if __name__ == "__main__":
    toy = Home.of(Path(sys.argv[1]))
    toy.create()
    ended = end_leftovers(read_state(toy.state_file), mark=toy.identity)
    asyncio.run(Supervisor(toy, specs(toy), notes=(f"ended {ended}",)).run())
