"""``python -m roadstead.runtime``: the operator."""

from __future__ import annotations

import asyncio
import sys

import structlog
from pydantic import ValidationError

from roadstead.adapters.kube.workloads import WorkloadsProblem
from roadstead.adapters.postgres.schema_version import SchemaProblem
from roadstead.runtime import logs
from roadstead.runtime.allocator import give_freed_memory_back
from roadstead.runtime.collector import look_at_no_fleet_twice
from roadstead.runtime.main import run
from roadstead.runtime.settings import OperatorSettings

_EXIT_SETTINGS, _EXIT_SCHEMA = 2, 4

log = structlog.get_logger(__name__)


def main() -> int:
    """Run one operator; the exit status tells why it ended."""
    try:
        settings = OperatorSettings()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = "_".join(["ROADSTEAD", *(str(part) for part in problem["loc"][:1])]).upper()
            sys.stderr.write(f"{name}: {problem['msg']}\n" if problem["loc"] else f"{problem['ctx']['error']}\n")
        return _EXIT_SETTINGS
    logs.configure(settings.log_level)
    look_at_no_fleet_twice()
    give_freed_memory_back()
    try:
        asyncio.run(run(settings))
    except SchemaProblem as problem:
        log.error("schema.does_not_fit", message=str(problem))  # noqa: TRY400 - a sentence, not a defect
        return _EXIT_SCHEMA
    except WorkloadsProblem as problem:
        log.error("workloads.unusable", message=str(problem))  # noqa: TRY400 - a sentence, not a defect
        return _EXIT_SETTINGS
    return 0


if __name__ == "__main__":
    sys.exit(main())
