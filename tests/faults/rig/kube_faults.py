"""Faults between a caller and an API server, as data: which calls, what happens to them, how often."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults.rig.kube_calls import Match

_REASONS: Final = {
    403: "Forbidden",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """This is answered, and nothing is forwarded."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delay:
    """Forwarded so many seconds later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class CutBefore:
    """The connection ends, and nothing was forwarded."""


@dataclass(frozen=True, slots=True)
class CutAfter:
    """Carried out, and the connection ends before the caller hears of it."""


@dataclass(frozen=True, slots=True)
class BlackHole:
    """Accepted, never forwarded and never answered; when the fault is over the connection ends."""


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """A watch, also one that stands already, from which no byte comes any more, nor after the fault is over."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A new watch is agreed to and then says "410 Gone" in an event of type ERROR."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """Each event of a watch is told, then the one before it and itself again: duplicates, and old after new."""


@dataclass(frozen=True, slots=True)
class Swapped:
    """Events of a watch that come close together are told in pairs, the later first."""


Effect = Answer | Delay | CutBefore | CutAfter | BlackHole | HalfOpen | Expired | Repeated | Swapped
OF_STREAMS: Final = (HalfOpen, Repeated, Swapped)
"""Looked up for each event, so that they reach watches that stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to which calls."""

    match: Match
    effect: Effect
    times: int | None = None
    """So many calls (of watches: events) are hit; None: all."""


def refusal(status: int, *, retry_after_seconds: int | None = None) -> Answer:
    """The API server's own words for a status."""
    headers = {} if retry_after_seconds is None else {"Retry-After": str(retry_after_seconds)}
    return Answer(status, json.dumps(status_object(status)).encode(), headers)


def status_object(status: int) -> dict[str, Any]:
    """A ``Status`` as the API server writes it."""
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": "the fault rig says so",
        "reason": _REASONS[status],
        "code": status,
    }
