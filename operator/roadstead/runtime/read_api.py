"""The read API of one operator process: served where the settings say, if they name a token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from roadstead.adapters.doors.caller import TokenFile
from roadstead.api.app import read_api
from roadstead.api.server import serve_api
from roadstead.ports import EngineLogs
from roadstead.runtime.settings import OperatorSettings
from roadstead.services.model_logs import ModelLogs
from roadstead.services.observe import Ports
from roadstead.services.outlook import Outlook
from roadstead.services.questions import Questions

log = structlog.get_logger(__name__)


@asynccontextmanager
async def served_read_api(
    settings: OperatorSettings, *, outlook: Outlook, questions: Questions, ports: Ports, logs: EngineLogs
) -> AsyncIterator[None]:
    """Serve while the block lasts. Enter it before Kopf starts: see ``api/server.py``."""
    if settings.api_token_file is None:
        log.info("api.not_served", why="ROADSTEAD_API_TOKEN_FILE is not set")
        yield
        return
    app = read_api(
        outlook=outlook,
        questions=questions,
        logs=ModelLogs(agents=ports.agents, cells=ports.cells, logs=logs),
        token=TokenFile(settings.api_token_file).read,
    )
    async with serve_api(app, settings.api_listen) as port:
        log.info("api.serves", listen=settings.api_listen, port=port)
        yield
