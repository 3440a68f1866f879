"""`python -m tests.cluster.machine up|down`: what `make cluster-up` and `make cluster-down` run."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from roadstead.embedded.failures import EmbeddedFleetError
from roadstead.embedded.progress import Progress
from tests.cluster.machine.home import ClusterHome
from tests.cluster.machine.up import down, up


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.cluster.machine", description="A two-node cluster for tests.")
    parser.add_argument("command", choices=("up", "down"))
    home, progress = ClusterHome.from_environment(), Progress()
    command = parser.parse_args().command
    # `up` that is told to end takes what it began with it.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if command == "up":
            up(home, progress)
        else:
            down(home)
            progress.say(f"nothing is left of the cluster in {home.root}")
    except EmbeddedFleetError as error:
        progress.finish()
        print(f"{error.code}: {error.sentence}\n{error.remedy}", file=sys.stderr)  # noqa: T201 - talks to a person
        if error.log_tail:
            print(error.log_tail, file=sys.stderr)  # noqa: T201 - likewise
        return 1
    except KeyboardInterrupt:
        progress.finish()
        return 130
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
