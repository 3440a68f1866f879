"""Logs: one JSON object a line on standard error, with the fields the decision was made with. No prompt, no secret."""

from __future__ import annotations

import logging

import structlog


def configure(level: str) -> None:
    """Set up structlog and route the standard library's loggers (Kopf, SQLAlchemy, aiohttp) through the same lines."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
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
    root.handlers = [handler]
    root.setLevel(level.upper())
    for chatty in ("kopf", "aiohttp.access", "kubernetes", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # At each start it warns that it cannot take signals: it is not meant to, see handlers/edge.py.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
