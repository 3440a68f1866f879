"""What is not known about a model now: the parts that it depends on and that do not answer, and since when.

Nothing is removed on missing knowledge, so a part that is away holds something up, and a person should read which. Told
is only what this model's plan waits for or is blind to, so that an outage changes no more statuses than it must. Times
are those of the last answer and do not move while the part stays away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import TypeVar

from roadstead.domain.model import ModelKey
from roadstead.domain.plan import Verdict
from roadstead.domain.reasons import Reason
from roadstead.domain.snapshot import Known, ObservedSlot, Part, Stale
from roadstead.planner.nodes import Seat, lost
from roadstead.planner.view import View

T = TypeVar("T")
_NAMED = 3
"""Parts of a kind that are named; of more it says how many."""


def unheard(
    model: ModelKey,
    slots: tuple[ObservedSlot, ...],
    *,
    seats: Mapping[str, Seat],
    view: View,
    making: bool,
    leaving: bool,
) -> tuple[Verdict, ...]:
    """What is not known about a model with these slots, and with those that its published route names.

    ``making``: a release waits for its number; ``leaving``: slots wait until no gateway sends to them.
    """
    snapshot = view.snapshot
    published = snapshot.routes.get(model)
    nodes = {slot.node for slot in slots} | {slot.node for slot in (published.slots if published is not None else ())}
    cells = {cell.name: cell.facts for cell in snapshot.cells if not nodes or cell.nodes & nodes}
    agents = {node: seats[node].agent for node in sorted(nodes) if node in seats and not lost(seats[node])}
    found = (
        _verdict(Reason.CELL_UNAVAILABLE, "the head agent of", cells, "what it serves is left as it is"),
        _verdict(Reason.AGENT_UNAVAILABLE, "the agent of", agents, "nothing starts and nothing is removed there"),
        _verdict(
            Reason.LEDGER_UNAVAILABLE, "", {"Postgres": snapshot.ledger} if making else {}, "a new release waits for it"
        ),
        _verdict(
            Reason.GATEWAY_UNAVAILABLE,
            "",
            dict(snapshot.gateways) if leaving else {},
            "what it may still send to is kept",
        ),
    )
    return tuple(verdict for verdict in found if verdict is not None)


def _verdict(reason: Reason, whose: str, parts: Mapping[str, Part[T]], so: str) -> Verdict | None:
    silent = [f"{whose} {name} {_since(part)}".strip() for name, part in parts.items() if not isinstance(part, Known)]
    if not silent:
        return None
    return Verdict(reason=reason, message=f"{', '.join(_some(silent))}: {so}")


def _since(part: Part[T]) -> str:
    if isinstance(part, Stale):
        return f"has not answered since {part.since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return "has not answered since this operator started"


def _some(words: list[str]) -> Iterable[str]:
    return words if len(words) <= _NAMED else [*words[:_NAMED], f"{len(words) - _NAMED} more"]
