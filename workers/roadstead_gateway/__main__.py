"""``python -m roadstead_gateway``: read the settings, run until told to stop."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from pydantic import ValidationError

from roadstead_gateway.gateway import serve
from roadstead_gateway.logs import configure_logs
from roadstead_gateway.settings import Settings


def main() -> int:
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            name = "_".join(map(str, problem["loc"])).upper()
            sys.stderr.write(f"ROADSTEAD_{name}: {problem['msg']}\n")
        return 2
    configure_logs(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
