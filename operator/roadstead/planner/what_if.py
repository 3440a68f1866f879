"""What would follow from a change of the fleet: the same plan, made from a picture of what is not so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from roadstead.domain.model import ConditionStatus
from roadstead.domain.plan import FetchWeights, FleetPlan, ModelReport, Resolve
from roadstead.domain.snapshot import AgentFacts, Cell, FleetSnapshot, Known, Part, Raylet, Weight, WeightPhase
from roadstead.domain.supposition import Consequences, Difference, NoSuchNode, Place, Supposition
from roadstead.planner.fleet import plan
from roadstead.planner.rest import Rest
from roadstead.planner.wishes import with_wishes

_HOSTNAME = "kubernetes.io/hostname"
_GIVE_WAY_ROUNDS = 3
"""Who gives way may in turn take room from models of still lower priority."""


def suppose(snapshot: FleetSnapshot, now: datetime, supposition: Supposition) -> FleetSnapshot:
    """The picture as it would be; ``NoSuchNode``."""
    for name in (*supposition.drained, *(name for name, _ in supposition.added)):
        if name not in snapshot.nodes:
            raise NoSuchNode(name)
    for like, number in supposition.added:
        for name in _free_names(snapshot, like, number):
            snapshot = _with_another(snapshot, like, name)
    drained = {name: replace(snapshot.nodes[name], unschedulable=True) for name in supposition.drained}
    return with_wishes(replace(snapshot, nodes={**snapshot.nodes, **drained}), supposition.applied, now)


def what_if(snapshot: FleetSnapshot, now: datetime, supposition: Supposition, rest: Rest | None = None) -> Consequences:
    """What would become of the models. ``rest`` saves work and is left as it is; ``NoSuchNode``."""
    supposed = suppose(snapshot, now, supposition)
    rest = rest if rest is not None else Rest()
    before, after = _led_to(snapshot, now, rest), _led_to(supposed, now, rest)
    sources = {variant.source for wish in supposition.applied for variant in wish.spec.variants}
    return Consequences(
        differences=differences(before, after),
        questions=tuple(each.key for each in after.actions if isinstance(each, Resolve) and each.key.source in sources),
    )


def _led_to(snapshot: FleetSnapshot, now: datetime, rest: Rest) -> FleetPlan:
    """The plan once what it has fetched is there: only then is anybody asked to give way to a higher priority."""
    planned = plan(snapshot, now, rest.copy())
    if len({model.priority for model in snapshot.models}) < 2:
        return planned
    for _ in range(_GIVE_WAY_ROUNDS):
        fetches = [each for each in planned.actions if isinstance(each, FetchWeights)]
        if not fetches:
            break
        for fetch in fetches:
            snapshot = _fetched(snapshot, fetch)
        planned = plan(snapshot, now, rest.copy())
    return planned


def _fetched(snapshot: FleetSnapshot, fetch: FetchWeights) -> FleetSnapshot:
    agent = snapshot.agents.get(fetch.node)
    if not isinstance(agent, Known):
        return snapshot
    digest, size = fetch.artifact.digest, fetch.artifact.bytes
    there = Weight(digest=digest, phase=WeightPhase.READY, bytes_total=size, bytes_done=size)
    others = tuple(weight for weight in agent.value.weights if weight.digest != digest)
    agents = {**snapshot.agents, fetch.node: Known(replace(agent.value, weights=(*others, there)))}
    return replace(snapshot, agents=agents)


def differences(before: FleetPlan, after: FleetPlan) -> tuple[Difference, ...]:
    """Of the models that would fare otherwise, and of those that are new, by name."""
    now = {report.model.uid: report for report in before.reports}
    found = [_difference(now.get(then.model.uid), then) for then in after.reports]
    told = [
        each
        for each, then in zip(found, after.reports, strict=True)
        if then.model.uid not in now or each.stops or each.starts or each.pending != each.pending_then
    ]
    return tuple(sorted(told, key=lambda each: each.model))


def _difference(now: ModelReport | None, then: ModelReport) -> Difference:
    has, would_have = _counted(now), _counted(then)
    pending = then.pending
    return Difference(
        model=then.model.key,
        stops=_places(has - would_have),
        starts=_places(would_have - has),
        pending=now.pending if now is not None else 0,
        pending_then=pending,
        why="; ".join(_obstacles(then)) if pending or now is None else "",
    )


def _obstacles(report: ModelReport) -> list[str]:
    said = {each.type: each for each in report.conditions}
    rows = [said[name] for name in ("Resolved", "Placed") if name in said]
    return [row.message for row in rows if row.status is not ConditionStatus.TRUE]


def _counted(report: ModelReport | None) -> Counter[tuple[str, str, str]]:
    """Replicas by node, variant and content: the same variant with another context starts anew."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for each in report.places if report is not None else ():
        counts[each.node, each.variant, each.content] += each.replicas
    return counts


def _places(counts: Mapping[tuple[str, str, str], int]) -> tuple[Place, ...]:
    return tuple(Place(node, variant, count) for (node, variant, _), count in sorted(counts.items()))


def _free_names(snapshot: FleetSnapshot, like: str, number: int) -> list[str]:
    names = (f"{like}-like-{index}" for index in range(1, number + len(snapshot.nodes) + 1))
    return [name for name in names if name not in snapshot.nodes][:number]


def _with_another(snapshot: FleetSnapshot, like: str, name: str) -> FleetSnapshot:
    """One more node, ready to serve: the same files, the same engines, nothing in use."""
    node = snapshot.nodes[like]
    labels = tuple((key, name if key == _HOSTNAME else value) for key, value in node.labels)
    agent = snapshot.agents.get(like)
    slices = {name: snapshot.device_slices[like]} if like in snapshot.device_slices else {}
    resolutions = {replace(key, node=name): answer for key, answer in snapshot.resolutions.items() if key.node == like}
    return replace(
        snapshot,
        nodes={**snapshot.nodes, name: replace(node, name=name, labels=labels, ready=True, unschedulable=False)},
        agents={**snapshot.agents, **({name: _empty(agent)} if agent is not None else {})},
        cells=tuple(_joined(cell, like, name) for cell in snapshot.cells),
        device_slices={**snapshot.device_slices, **slices},
        resolutions={**snapshot.resolutions, **resolutions},
    )


def _empty(agent: Part[AgentFacts]) -> Part[AgentFacts]:
    if not isinstance(agent, Known):
        return agent
    facts = agent.value
    devices = tuple(replace(each, free_bytes=each.memory_bytes) for each in facts.devices)
    return Known(  # as fast
        replace(facts, free_bytes=facts.budget_bytes, devices=devices, weights=(), leases=(), measured_bytes=())
    )


def _joined(cell: Cell, like: str, name: str) -> Cell:
    """The cell with the new node in it, if the other one is."""
    facts = cell.facts
    if isinstance(facts, Known) and like in facts.value.nodes:
        raylets = frozenset(Raylet(name, each.image) for each in facts.value.raylets if each.node == like)
        facts = Known(replace(facts.value, nodes=facts.value.nodes | {name}, raylets=facts.value.raylets | raylets))
    nodes = cell.nodes | {name} if like in cell.nodes else cell.nodes
    return replace(cell, nodes=nodes, facts=facts)
