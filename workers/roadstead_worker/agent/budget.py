"""How much of the machine engines may use: a small file that is read again when it changes, or fixed figures.

A malformed file keeps the last good figures and is logged once per change: a slip of an editor must not stop a fleet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

log = structlog.get_logger(__name__)


class Budget(BaseModel):
    """What engines together may use."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    memory_bytes: Annotated[int, Field(ge=0, lt=2**60)]
    cores: Annotated[int, Field(ge=1, le=4096)]


class BudgetFile:
    """The budget in ``path``; ``default`` while there is no good file."""

    def __init__(self, path: Path | None, default: Budget) -> None:
        self._path = path
        self._default = default
        self._budget = default
        self._seen: tuple[int, int, int] | None = None

    def current(self) -> Budget:
        """Reads the file only when its inode, size or time has changed."""
        if self._path is None:
            return self._budget
        try:
            stat = self._path.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen == self._seen:
                return self._budget
            content = self._path.read_bytes()
        except FileNotFoundError:
            if self._seen is not None:
                log.warning("budget file is gone, keeping the last figures", path=str(self._path))
                self._seen = None
            return self._budget
        except OSError as error:
            log.warning("budget file cannot be read, keeping the last figures", path=str(self._path), error=str(error))
            return self._budget
        self._seen = seen
        try:
            self._budget = Budget.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            log.warning(
                "budget file is malformed, keeping the last figures",
                path=str(self._path),
                field=".".join(str(part) for part in first["loc"]),
                error=first["msg"],
            )
        else:
            log.info("budget", memory_bytes=self._budget.memory_bytes, cores=self._budget.cores)
        return self._budget
