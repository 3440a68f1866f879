"""Whether a content may run on a node, and in words why not: what placement decides by and what people are told.

What is asked of the node whatever runs there is in ``nodes``. A file that nobody has looked for on the node yet is a
verdict as well: it is being asked for, and the question is noted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from roadstead.domain.inventory import Device
from roadstead.domain.model import ModelSpec
from roadstead.domain.plan import Resolve, Verdict
from roadstead.domain.quantity import in_words
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Content
from roadstead.domain.snapshot import AgentFacts, ResolutionKey, Resolved, Unresolved, WeightPhase
from roadstead.planner.ladder import due
from roadstead.planner.needs import Need
from roadstead.planner.nodes import Seat, awaits, engine_verdict
from roadstead.planner.quality import below_floor
from roadstead.planner.rooms import Room
from roadstead.planner.speed import too_slow
from roadstead.planner.suitability.assess import or_ambiguous
from roadstead.planner.view import View
from roadstead.planner.ways import ways_on


@dataclass(slots=True, kw_only=True)
class Case:
    """The model that nodes are looked at for."""

    spec: ModelSpec
    view: View
    now: datetime
    serving: frozenset[str] = frozenset()
    """Nodes that the model has slots on."""
    questions: dict[ResolutionKey, Resolve] = field(default_factory=dict)
    """Files that have to be asked for before more can be said; they are added to."""


def content_verdict(case: Case, content: Content, seat: Seat, *, room: Room) -> Verdict | None:
    """None if a replica of this content may run on this node, where this room is free for it."""
    found = need_on(case, content, seat, room=room)
    return found if isinstance(found, Verdict) else None


def need_on(
    case: Case, content: Content, seat: Seat, *, room: Room, like: Need | None = None, tight: bool = False
) -> Need | Verdict:
    """What a replica of this content would take on this node, where this room is free for it; or why it may not.

    ``like``: it has to run as those do that are there already. ``tight``: it may be tried where only a start can tell.
    """
    facts = seat.facts
    if facts is None:
        return Verdict(reason=Reason.AGENT_UNAVAILABLE, message="its agent does not answer")
    unfit = below_floor(content, case.spec)
    if unfit is not None:
        return unfit
    # Where the model serves already, its next worker is waited for: the first node to have one would get everything.
    counted_on = seat.node.name in case.serving and awaits(seat, content.engine_image)
    verdict = engine_verdict(seat, engine=content.engine, image=content.engine_image)
    if verdict is not None and not counted_on:
        return verdict
    need = _way_on(case, content, seat, facts=facts, room=room, like=like, tight=tight)
    if isinstance(need, Verdict):
        return need
    return _source_verdict(case, content, seat) or need


def _way_on(
    case: Case, content: Content, seat: Seat, *, facts: AgentFacts, room: Room, like: Need | None, tight: bool
) -> Need | Verdict:
    """The first of the ways that is fast enough and that there is room for; else what speaks against each."""
    ways = (like,) if like is not None else ways_on(content, seat, case.view, tight=tight)
    if isinstance(ways, Verdict):
        return or_ambiguous(facts.ambiguities, ways)
    against: list[Verdict] = []
    for need in ways:
        verdict = too_slow(content, facts, case.spec, case.view, devices_for(need, facts)) or _no_room(
            need, facts, room
        )
        if verdict is None:
            return need
        against.append(verdict)
    first = against[0]
    words = "; ".join(dict.fromkeys(each.message for each in against))
    return or_ambiguous(facts.ambiguities, Verdict(reason=first.reason, message=words))


def devices_for(need: Need, facts: AgentFacts) -> tuple[Device, ...]:
    """Some of the node's that it would run on: they are alike."""
    return tuple(each for each in facts.devices if need.may_use(each.id))[: need.devices]


def _no_room(need: Need, facts: AgentFacts, room: Room) -> Verdict | None:
    """None if there is room for it."""
    if need.host > facts.budget_bytes:
        # Says nothing of what is free: that moves, and would make no difference.
        return Verdict(
            reason=Reason.INSUFFICIENT_RAM,
            message=f"needs {need}, the node has {in_words(facts.budget_bytes)}: "
            f"{need.host - facts.budget_bytes} bytes short",
        )
    if need.host > room.host:
        free = max(0, room.host)
        return Verdict(
            reason=Reason.INSUFFICIENT_RAM,
            message=f"needs {need}, {in_words(free)} of {in_words(facts.budget_bytes)} are free: "
            f"{need.host - free} bytes short",
        )
    if room.spot(need) is None:
        return Verdict(reason=Reason.INSUFFICIENT_VRAM, message=f"needs {need}; {_emptiest(need, facts, room)}")
    return None


def _emptiest(need: Need, facts: AgentFacts, room: Room) -> str:
    free = dict(room.devices)
    able = [each for each in facts.devices if need.may_use(each.id)]
    best = max(able, key=lambda each: (free.get(each.id, 0), each.id))
    enough = sum(free.get(each.id, 0) >= need.each for each in able)
    words = f"of {len(able)} {best.product} the emptiest has {in_words(max(0, free.get(best.id, 0)))}"
    return f"{words} of {in_words(best.memory_bytes)} free" + (f", and {enough} have enough" if enough else "")


def _source_verdict(case: Case, content: Content, seat: Seat) -> Verdict | None:
    """Whether the artifact is on the node or can be had there."""
    node = seat.node.name
    weight = seat.facts.weight(content.artifact.digest) if seat.facts is not None else None
    if weight is not None and weight.phase is WeightPhase.FAILED:
        return Verdict(reason=Reason.of_agent(weight.code), message=weight.message)
    if weight is not None or not content.source.startswith("file:"):
        return None
    answers = case.view.answers(node, content.source)
    if any(isinstance(answer, Resolved) and answer.artifact.digest == content.artifact.digest for answer in answers):
        return None
    question = ResolutionKey(node=node, source=content.source, digest=content.artifact.digest)
    if due(case.view.snapshot.resolutions.get(question), case.now):
        case.questions[question] = Resolve(key=question)
    refusal = case.view.snapshot.resolutions.get(question) or next(
        (a for a in answers if isinstance(a, Unresolved)), None
    )
    if isinstance(refusal, Unresolved):
        return Verdict(reason=Reason.of_agent(refusal.code), message=refusal.message)
    return Verdict(reason=Reason.RESOLVING, message=f"is being asked for {content.source}")


def asks_first(case: Case, content: Content, node: str) -> bool:
    """Whether nothing but an answer that was never asked for keeps the content off the node."""
    question = ResolutionKey(node=node, source=content.source, digest=content.artifact.digest)
    return question in case.questions and question not in case.view.snapshot.resolutions
