"""Logs of an agent: one JSON object per line on standard error, for people and machines alike.

Secrets never reach a log call: tokens stay inside ``door.BearerFile``, and sources are logged by their label, without
their query.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs(*, role: str) -> None:
    """Call once, before anything logs. The standard library's loggers (aiohttp) join the same stream at WARNING."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.dict_tracebacks,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=structlog.processors.JSONRenderer(), foreign_pre_chain=shared)
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    structlog.contextvars.bind_contextvars(role=role)
