"""What ``status`` says: every choice in words, and the conditions by which people and tools wait.

Nothing here may change while nothing happens: figures that move by themselves (memory free to the byte, seconds) are
rounded or left out, because a status write wakes whoever watches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from roadstead.domain.model import ConditionStatus, Model, ModelKey
from roadstead.domain.plan import ConditionReport, ModelReport, QualityOrigin, SlotReport, VariantReport, Verdict
from roadstead.domain.quantity import in_words
from roadstead.domain.reasons import Reason
from roadstead.domain.release import Release
from roadstead.domain.snapshot import ObservedSlot, Route
from roadstead.domain.supposition import Place
from roadstead.planner.deal import Deal
from roadstead.planner.ladder import Ladder
from roadstead.planner.nodes import Seat, closing
from roadstead.planner.quality import figure
from roadstead.planner.transition import Transition
from roadstead.planner.verdicts import devices_for

_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
_SLOT_ROWS = 64
_TRANSIENT = frozenset({Reason.SOURCE_UNAVAILABLE, Reason.AGENT_UNAVAILABLE, Reason.RESOLVING, Reason.FETCHING})
"""Refusals that may pass without anybody doing anything."""
_UNDER_WAY = frozenset({"NOT_STARTED", "DEPLOYING"})
"""Ray's words for an application that is on its way to what was asked for."""
_PERSISTENT_ATTEMPTS = 2
"""A slot that failed to start this often will not start by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything the planner found out about one model this turn."""

    model: Model
    seats: Mapping[str, Seat]
    granted: Mapping[str, ModelKey]
    ladder: Ladder | None = None
    release: Release | None = None
    previous: int | None = None
    making: bool = False
    """A release waits for its number."""
    unserved: Mapping[str, Verdict] = field(default_factory=dict)
    """Resolved variants that no engine of the model's pools runs."""
    ledger_known: bool = True
    observed: tuple[ObservedSlot, ...] = ()
    deal: Deal | None = None
    transition: Transition | None = None
    route: Route | None = None
    departing: str = ""
    """What the model's deletion waits for."""
    unheard: tuple[Verdict, ...] = ()
    """Parts that the model depends on and that do not answer."""

    @property
    def wanted(self) -> int:
        """Replicas asked for."""
        return self.model.spec.replicas if self.model.spec is not None else 0

    @property
    def ready(self) -> int:
        """Running replicas that take new requests."""
        draining = self.transition.draining if self.transition is not None else frozenset[str]()
        return sum(slot.ready for slot in self.observed if slot.name not in draining)

    @property
    def failing(self) -> tuple[ObservedSlot, ...]:
        """Slots that Ray has given up on."""
        return tuple(slot for slot in self.observed if slot.failed_at is not None)

    @property
    def moving(self) -> bool:
        """Whether slots are being started or taken away."""
        if self.transition is None or self.deal is None:
            return False
        starting = any(slot.ready < slot.replicas and slot.status in _UNDER_WAY for slot in self.observed)
        return bool(starting or self.transition.waiting or self.transition.put or self.deal.leaving)


def report(findings: Findings) -> ModelReport:
    """The status of one model."""
    conditions = tuple(condition(findings) for condition in _CONDITIONS)
    return ModelReport(
        model=findings.model,
        release=findings.release,
        previous=findings.previous,
        replicas=sum(slot.replicas for slot in findings.observed),
        ready=findings.ready,
        variants=_variants(findings),
        slots=_slots(findings)[:_SLOT_ROWS],
        conditions=conditions,
        status=_word(findings, {condition.type: condition for condition in conditions}),
        places=_places(findings),
    )


def _places(findings: Findings) -> tuple[Place, ...]:
    if findings.deal is None:
        return tuple(Place(slot.node, slot.variant, slot.replicas, slot.content) for slot in findings.observed)
    return tuple(
        Place(each.node, each.content.variant, each.replicas, each.content.hash) for each in findings.deal.targets
    )


def _variants(findings: Findings) -> tuple[VariantReport, ...]:
    if findings.ladder is None:
        return ()
    rows = []
    for rung in findings.ladder.rungs:
        name = rung.variant.name
        chosen = _chosen(findings, name)
        contents = findings.release.contents if findings.release is not None else ()
        content = next((content for content in contents if content.variant == name), None)
        quality, origin = rung.variant.quality, QualityOrigin.GIVEN if rung.variant.quality is not None else None
        if content is not None:
            quality, origin = figure(content, findings.model.checked_spec)
        rows.append(
            VariantReport(
                name=name,
                quality=quality if quality is None else round(quality, 3),
                quality_origin=origin,
                bytes=rung.artifact.bytes if rung.artifact is not None else 0,
                chosen=sum(chosen.values()),
                verdict=_variant_verdict(findings, name, chosen) if rung.artifact is not None else rung.verdict,
            )
        )
    return tuple(rows)


def _chosen(findings: Findings, variant: str) -> dict[str, int]:
    targets = findings.deal.targets if findings.deal is not None else ()
    return {target.node: target.replicas for target in targets if target.content.variant == variant}


def _variant_verdict(findings: Findings, variant: str, chosen: Mapping[str, int]) -> Verdict:
    """Chosen where, and for every other node why not."""
    refusals = findings.deal.refusals if findings.deal is not None else {}
    against = {node: verdict for (name, node), verdict in sorted(refusals.items()) if name == variant}
    words = [f"{count} on {node}{_on_devices(findings, variant, node)}" for node, count in sorted(chosen.items())]
    words += [f"not on {node}: {verdict.message}" for node, verdict in against.items() if node not in chosen]
    words += _of_others(findings.deal)
    if chosen:
        return Verdict(reason=Reason.CHOSEN, message="; ".join(words))
    if variant in findings.unserved:
        return findings.unserved[variant]
    if against:
        first = min(against.values(), key=lambda verdict: verdict.reason is Reason.NODE_NOT_SELECTED)
        return Verdict(reason=first.reason, message="; ".join(words))
    if findings.wanted == 0:
        return Verdict(reason=Reason.SCALED_TO_ZERO, message="spec.replicas is 0")
    return Verdict(reason=Reason.NOT_OBSERVED, message="not placed yet")


def _on_devices(findings: Findings, variant: str, node: str) -> str:
    """On what accelerators, if any."""
    targets = findings.deal.targets if findings.deal is not None else ()
    needs = [each.need for each in targets if (each.node, each.content.variant) == (node, variant)]
    seat = findings.seats.get(node)
    if not needs or seat is None or seat.facts is None:
        return ""
    devices = devices_for(needs[0], seat.facts)
    return f" ({needs[0].devices} × {devices[0].product}, {in_words(needs[0].each)} each)" if devices else ""


def _slots(findings: Findings) -> tuple[SlotReport, ...]:
    engines = {content.hash: content for content in (findings.release.contents if findings.release else ())}
    weights = {slot.slot: slot.weight for slot in (findings.route.slots if findings.route is not None else ())}
    rows = []
    for slot in sorted(findings.observed, key=lambda slot: slot.name):
        seat = findings.seats.get(slot.node)
        facts = seat.facts if seat is not None else None
        state, message = _slot_state(findings, slot)
        content = engines.get(slot.content)
        rows.append(
            SlotReport(
                name=slot.name,
                node=slot.node,
                pool=seat.pool.name if seat is not None and seat.pool is not None else "",
                releases=(slot.release,),
                variant=slot.variant,
                engine=content.engine if content is not None else "",
                replicas=slot.replicas,
                ready=slot.ready,
                weight=weights.get(slot.name, 0),
                memory_estimated=slot.memory_bytes,
                memory_measured=dict(facts.measured_bytes).get(slot.content, 0) if facts is not None else 0,
                state=state,
                message=message,
            )
        )
    return tuple(rows)


def _slot_state(findings: Findings, slot: ObservedSlot) -> tuple[Reason, str]:
    if findings.transition is not None and slot.name in findings.transition.draining:
        claimant = findings.deal.claimants.get(slot.name) if findings.deal is not None else None
        return Reason.DRAINING, f"gives way to {claimant}" if claimant else "takes no new requests"
    if slot.failed_at is not None:
        return Reason.ENGINE_START_FAILED, _last_line(slot.message)
    if slot.ready >= slot.replicas:
        seat = findings.seats.get(slot.node)
        leaves = closing(seat, slot.engine_image) if seat is not None else None
        return Reason.SERVING, f"until it has room elsewhere: {slot.node} {leaves.message}" if leaves else ""
    return Reason.STARTING, _last_line(slot.message)


def _last_line(text: str) -> str:
    """Ray's messages are tracebacks: what a person needs is the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:400] if lines else ""


def _accepted(findings: Findings) -> ConditionReport:
    if findings.model.problems:
        words = "; ".join(f"{problem.path}: {problem.message}" for problem in findings.model.problems)
        return _condition("Accepted", _FALSE, Reason.INVALID_SPEC, words)
    if findings.model.ignored:
        words = "; ".join(f"{problem.path} is ignored: {problem.message}" for problem in findings.model.ignored)
        return _condition("Accepted", _TRUE, Reason.ANNOTATION_IGNORED, f"the spec can be acted on; {words}")
    return _condition("Accepted", _TRUE, Reason.VALID, "the spec can be acted on")


def _resolved(findings: Findings) -> ConditionReport:
    if findings.ladder is None:
        return _condition("Resolved", _UNKNOWN, Reason.NOT_OBSERVED, "waits for a valid spec")
    refused = [rung.verdict for rung in findings.ladder.rungs if rung.settled and rung.artifact is None]
    if refused:
        return _condition("Resolved", _FALSE, refused[0].reason, "; ".join(verdict.message for verdict in refused))
    waiting = [rung.verdict for rung in findings.ladder.rungs if not rung.settled]
    if waiting:
        return _condition("Resolved", _UNKNOWN, waiting[0].reason, "; ".join(verdict.message for verdict in waiting))
    return _condition(
        "Resolved", _TRUE, Reason.RESOLVED, "; ".join(rung.verdict.message for rung in findings.ladder.rungs)
    )


def _placed(findings: Findings) -> ConditionReport:
    if findings.making and not findings.ledger_known:
        return _condition(
            "Placed", _UNKNOWN, Reason.LEDGER_UNAVAILABLE, "a new release waits for Postgres; what runs goes on"
        )
    if findings.unserved and findings.release is None and not _open(findings):
        words = "; ".join(f"{name}: {verdict.message}" for name, verdict in findings.unserved.items())
        return _condition("Placed", _FALSE, Reason.NO_FORMAT_ENGINE, words)
    if findings.deal is None or findings.transition is None:
        return _condition("Placed", _UNKNOWN, Reason.NOT_OBSERVED, "waits for a release")
    if findings.deal.missing:
        refusals = findings.deal.refusals
        words = "; ".join(f"{name} on {node}: {verdict.message}" for (name, node), verdict in sorted(refusals.items()))
        words = "; ".join([words or "No node is known.", *_of_others(findings.deal)])
        ways = [f"{name} gives way to {to}." for name, to in sorted(findings.deal.claimants.items())]
        message = " ".join([f"{findings.deal.missing} of {findings.wanted} replicas fit nowhere.", *ways, words])
        reason = Reason.PREEMPTED_BY_PRIORITY if ways else _placing_reason(findings.deal)
        return _condition("Placed", _FALSE, reason, message)
    if findings.transition.blocked:
        first = findings.transition.blocked[0]
        words = "; ".join(verdict.message for verdict in findings.transition.blocked)
        return _condition("Placed", _FALSE, first.reason, words)
    if not findings.wanted:
        return _condition("Placed", _TRUE, Reason.SCALED_TO_ZERO, "spec.replicas is 0")
    words = ", ".join(
        f"{each.replicas} × {each.content.variant} on {each.node}"
        f"{_on_devices(findings, each.content.variant, each.node)}"
        for each in findings.deal.targets
    )
    tried = [each for each in findings.deal.targets if each.need.marginal]
    if tried:
        words += "; whether there is room enough on " + ", ".join(each.node for each in tried) + " the start will tell"
    return _condition("Placed", _TRUE, Reason.MARGINAL_FIT if tried else Reason.CHOSEN, words)


def _of_others(deal: Deal | None) -> list[str]:
    """A word about the nodes that are too many to be told one by one."""
    return [f"{deal.unexplained} more nodes are not told here"] if deal is not None and deal.unexplained else []


def _placing_reason(deal: Deal) -> Reason:
    """The reason a person can do something about: room before everything that is only not selected."""
    reasons = [verdict.reason for _, verdict in sorted(deal.refusals.items())]
    telling = [reason for reason in reasons if reason not in (Reason.NODE_NOT_SELECTED, Reason.OUTRANKED)]
    if Reason.INSUFFICIENT_RAM in telling:
        return Reason.INSUFFICIENT_RAM
    return next(iter(telling), next(iter(reasons), Reason.NODE_NOT_SELECTED))


def _ready(findings: Findings) -> ConditionReport:
    if findings.departing:
        return _condition("Ready", _FALSE, Reason.DRAINING, findings.departing)
    if findings.release is None and not findings.observed:
        blocked = _obstacle(findings) or Verdict(reason=Reason.RESOLVING, message="waits for its first release")
        return _condition("Ready", _FALSE, blocked.reason, blocked.message)
    if not findings.wanted:
        return _condition("Ready", _TRUE, Reason.SCALED_TO_ZERO, "spec.replicas is 0")
    count = f"{findings.ready} of {findings.wanted} replicas answer"
    if findings.ready >= findings.wanted:
        return _condition("Ready", _TRUE, Reason.SERVING, count)
    why = _obstacle(findings) or _pending(findings)
    return _condition("Ready", _FALSE, why.reason, f"{count}: {why.message}" if why.message else count)


def _progressing(findings: Findings) -> ConditionReport:
    if findings.departing:
        return _condition("Progressing", _TRUE, Reason.DRAINING, findings.departing)
    obstacle = _obstacle(findings)
    if obstacle is not None and not findings.moving:
        return _condition("Progressing", _FALSE, obstacle.reason, obstacle.message)
    if findings.moving or findings.ready < findings.wanted or _open(findings):
        pending = _pending(findings)
        return _condition("Progressing", _TRUE, pending.reason, pending.message)
    return _condition("Progressing", _FALSE, Reason.SETTLED, "nothing is under way")


def _degraded(findings: Findings) -> ConditionReport:
    if findings.departing:
        return _condition("Degraded", _FALSE, Reason.SETTLED, "on its way out")
    taken = _names_of_others(findings)
    if taken:
        message = f"{', '.join(taken)}; this model answers to {findings.model.key}"
        return _condition("Degraded", _TRUE, Reason.NAME_CONFLICT, message)
    if findings.observed and findings.ready < findings.wanted and not findings.moving:
        why = _obstacle(findings) or _pending(findings)
        return _condition("Degraded", _TRUE, why.reason, why.message or "fewer replicas answer than were asked for")
    if findings.observed and (obstacle := _obstacle(findings)) is not None:
        return _condition("Degraded", _TRUE, obstacle.reason, f"serving as before: {obstacle.message}")
    return _condition("Degraded", _FALSE, Reason.SETTLED, "as asked for")


def _names_of_others(findings: Findings) -> list[str]:
    spec = findings.model.spec
    owners = {name: findings.granted.get(name) for name in spec.names} if spec is not None else {}
    return [f"{name} belongs to {owner}" for name, owner in owners.items() if owner not in (None, findings.model.key)]


def _observed(findings: Findings) -> ConditionReport:
    if not findings.unheard:
        return _condition("Observed", _TRUE, Reason.SETTLED, "everything that it depends on answers")
    words = "; ".join(verdict.message for verdict in findings.unheard)
    return _condition("Observed", _FALSE, findings.unheard[0].reason, words)


def _reconciling(findings: Findings) -> ConditionReport:
    progressing = _progressing(findings)
    return _condition("Reconciling", progressing.status, progressing.reason, progressing.message)


def _stalled(findings: Findings) -> ConditionReport:
    obstacle = _obstacle(findings)
    if obstacle is not None and obstacle.reason not in _TRANSIENT and not findings.departing:
        return _condition("Stalled", _TRUE, obstacle.reason, obstacle.message)
    return _condition("Stalled", _FALSE, Reason.SETTLED, "nothing waits for a person")


def _obstacle(findings: Findings) -> Verdict | None:
    """What keeps the model from being as asked for and will not pass by itself soon."""
    for condition in (_accepted(findings), _resolved(findings), _placed(findings)):
        if condition.status is _FALSE or condition.reason is Reason.LEDGER_UNAVAILABLE:
            return Verdict(reason=condition.reason, message=condition.message)
    broken = [slot for slot in findings.failing if slot.attempt >= _PERSISTENT_ATTEMPTS]
    if broken:
        return Verdict(reason=Reason.ENGINE_START_FAILED, message=f"{broken[0].name}: {_last_line(broken[0].message)}")
    return None


def _open(findings: Findings) -> bool:
    return findings.making or (findings.ladder is not None and not findings.ladder.settled)


def _pending(findings: Findings) -> Verdict:
    """What is under way, the earliest step first."""
    if findings.ladder is not None and not findings.ladder.settled:
        return next(rung.verdict for rung in findings.ladder.rungs if not rung.settled)
    if findings.making:
        return Verdict(reason=Reason.RESOLVING, message="a new release is being recorded")
    if findings.failing:
        slot = findings.failing[0]
        return Verdict(reason=Reason.ENGINE_START_FAILED, message=f"{slot.name}: {_last_line(slot.message)}")
    waiting = findings.transition.waiting if findings.transition is not None else {}
    fetching = [f"{name} {verdict.message}" for name, verdict in waiting.items() if verdict.reason is Reason.FETCHING]
    if fetching:
        return Verdict(reason=Reason.FETCHING, message="; ".join(fetching))
    if findings.deal is not None and findings.deal.leaving:
        leaving = ", ".join(slot.name for slot in findings.deal.leaving)
        return Verdict(reason=Reason.ROLLOUT_STEP, message=f"on its way from {leaving}")
    starting = [*waiting, *(slot.name for slot in findings.observed if slot.ready < slot.replicas)]
    return Verdict(reason=Reason.STARTING, message=f"{', '.join(sorted(set(starting)))} starting" if starting else "")


def _word(findings: Findings, conditions: Mapping[str, ConditionReport]) -> str:
    """The STATUS column."""
    if findings.departing:
        return "Deleting"
    ready, stalled, degraded = conditions["Ready"], conditions["Stalled"], conditions["Degraded"]
    if ready.status is _TRUE:
        return "Degraded" if degraded.status is _TRUE else ("Rolling" if findings.moving else "Ready")
    return stalled.reason if stalled.status is _TRUE else conditions["Progressing"].reason


def _condition(kind: str, status: ConditionStatus, reason: Reason, message: str) -> ConditionReport:
    return ConditionReport(type=kind, status=status, reason=reason, message=message)


_CONDITIONS: tuple[Callable[[Findings], ConditionReport], ...] = (
    _accepted,  # the spec can be acted on
    _resolved,  # every rung's source has an identity
    _placed,  # every replica has a node
    _ready,  # as many replicas answer as were asked for
    _progressing,  # something is under way
    _degraded,  # less, or otherwise, than asked for
    _observed,  # all that the plan follows from is known
    _reconciling,  # kstatus: still working
    _stalled,  # kstatus: only a person can help
)
