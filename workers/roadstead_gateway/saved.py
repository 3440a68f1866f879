"""The last good routes on disk, so that a gateway can start and serve while no API server answers.

One file, replaced atomically, readable by its owner alone; nothing secret is in it. A file that cannot be read counts
as none. Written at most once a second, in a thread: routes change rarely, but a fleet may change many at once.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Final

import structlog

from roadstead_gateway.routes import Route, RouteInvalid, RouteTable

log = structlog.stdlib.get_logger(__name__)

FILE: Final = "routes.json"
FORMAT: Final = 1
WRITE_SECONDS: Final = 1.0


def load(state_dir: Path) -> tuple[Route, ...]:
    """The routes that were in force last; none if there is no such file or it is not ours."""
    path = state_dir / FILE
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise RouteInvalid("another format")
        return tuple(Route.parse(item) for item in found["routes"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        log.warning("saved_routes_unreadable", path=str(path), error=type(error).__name__)
        return ()


def save(state_dir: Path, routes: tuple[Route, ...]) -> None:
    """Replace the file: at any moment it is the old one or the new one, whole."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, "routes": [route.as_object() for route in routes]})
    draft = state_dir / f".{FILE}.{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(state_dir / FILE)


async def keep(table: RouteTable, state_dir: Path, *, every_seconds: float = WRITE_SECONDS) -> None:
    """Write the routes after every change, for ever. A full disk is reported and tried again at the next turn."""
    written = table.version
    while True:
        await asyncio.sleep(every_seconds)
        if written == table.version:
            continue
        version = table.version
        try:
            await asyncio.to_thread(save, state_dir, table.routes())
        except OSError as error:
            log.warning("routes_not_saved", path=str(state_dir), error=type(error).__name__)
            continue
        written = version
