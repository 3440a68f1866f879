"""Where the doors are: agents by node, head agents by cell, gateways by name.

Embedded, the supervisor writes a file; in a cluster the same questions are answered by Pods (``pod_directory``).
Whoever follows a directory only asks :meth:`Directory.listing`, as often as it likes: it never waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDoor:
    node: str
    url: str
    """Empty: it has no address at the moment, and what it said last stands and ages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellDoor:
    name: str
    url: str
    """Empty: its head agent has no address at the moment."""
    host: str
    """Address of the Ray head."""
    nodes: frozenset[str]
    """Nodes that belong to the cell, whether a raylet lives there or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayDoor:
    name: str
    url: str
    """The internal one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All doors at one moment, by the name that the rest of the product knows them under."""

    agents: dict[str, AgentDoor]
    cells: dict[str, CellDoor]
    gateways: dict[str, GatewayDoor]


EMPTY = Listing(agents={}, cells={}, gateways={})


class Directory(Protocol):
    def listing(self) -> Listing: ...


class FileDirectory:
    """A JSON file, read again when it changes.

    A file that is missing, half-written or wrong changes nothing: the last good listing stands, and the log says why.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._listing = EMPTY
        self._complaint = ""

    def listing(self) -> Listing:
        try:
            stat = self._path.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen != self._seen:
                self._listing = _parse(self._path.read_bytes())
                self._seen = seen
                self._complaint = ""
        except (OSError, ValueError) as error:
            self._complain(str(error).splitlines()[0] if str(error) else type(error).__name__)
        return self._listing

    def _complain(self, why: str) -> None:
        if why != self._complaint:
            log.warning("directory.unreadable", path=str(self._path), message=why)
            self._complaint = why


class _Entry(BaseModel):
    # A newer supervisor may say more.
    model_config = ConfigDict(extra="ignore")


class _Agent(_Entry):
    node: str = Field(min_length=1)
    url: str = Field(pattern="^https?://")


class _Cell(_Entry):
    name: str = Field(min_length=1)
    url: str = Field(pattern="^https?://")
    host: str = ""
    nodes: frozenset[str] = frozenset()


class _Gateway(_Entry):
    name: str = Field(min_length=1)
    internal_url: str = Field(pattern="^https?://")


class _File(_Entry):
    agents: tuple[_Agent, ...] = ()
    cells: tuple[_Cell, ...] = ()
    gateways: tuple[_Gateway, ...] = ()


def _parse(content: bytes) -> Listing:
    try:
        file = _File.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ValueError(f"{where}: {first['msg']}") from None
    listing = Listing(
        agents={each.node: AgentDoor(node=each.node, url=each.url.rstrip("/")) for each in file.agents},
        cells={
            each.name: CellDoor(name=each.name, url=each.url.rstrip("/"), host=each.host, nodes=each.nodes)
            for each in file.cells
        },
        gateways={each.name: GatewayDoor(name=each.name, url=each.internal_url.rstrip("/")) for each in file.gateways},
    )
    if (len(listing.agents), len(listing.cells), len(listing.gateways)) != (
        len(file.agents),
        len(file.cells),
        len(file.gateways),
    ):
        raise ValueError("a name is listed more than once")
    return listing
