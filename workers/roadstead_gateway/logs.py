"""Structured logs on standard output: one JSON object a line, ours and the libraries' alike.

No prompt, key or secret may be in a log. Ours are events with named fields. Libraries' exceptions are cut down to
type and place, because their words may quote what was being parsed or sent.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import structlog
from structlog.typing import EventDict, Processor


def _only_type_and_place(_: Any, __: str, event: EventDict) -> EventDict:  # noqa: ANN401 - structlog's own signature
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)
        if frames:
            event["at"] = f"{frames[-1].filename}:{frames[-1].lineno}"
    return event


def configure_logs(level: str) -> None:
    """Set up structlog and the standard library's logging, once, at the start of the process."""
    shared: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _only_type_and_place,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for library in ("aiohttp", "asyncio", "uvicorn"):
        logging.getLogger(library).setLevel(max(logging.WARNING, root.level))
