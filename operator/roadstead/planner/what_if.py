"""What would follow from a change of the fleet: the same plan, made from a picture of what is not so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from roadstead.domain.plan import FleetPlan, ModelReport
from roadstead.domain.snapshot import AgentFacts, Cell, FleetSnapshot, Known, Part, Raylet
from roadstead.domain.supposition import Difference, NoSuchNode, Place, Supposition
from roadstead.planner.fleet import plan
from roadstead.planner.rest import Rest

_HOSTNAME = "kubernetes.io/hostname"


def suppose(snapshot: FleetSnapshot, supposition: Supposition) -> FleetSnapshot:
    """The picture as it would be; ``NoSuchNode``."""
    for name in (*supposition.drained, *(name for name, _ in supposition.added)):
        if name not in snapshot.nodes:
            raise NoSuchNode(name)
    for like, number in supposition.added:
        for name in _free_names(snapshot, like, number):
            snapshot = _with_another(snapshot, like, name)
    drained = {name: replace(snapshot.nodes[name], unschedulable=True) for name in supposition.drained}
    return replace(snapshot, nodes={**snapshot.nodes, **drained})


def what_if(
    snapshot: FleetSnapshot, now: datetime, supposition: Supposition, rest: Rest | None = None
) -> tuple[Difference, ...]:
    """What would become of the models. ``rest`` saves work and is left as it is; ``NoSuchNode``."""
    supposed = suppose(snapshot, supposition)
    rest = rest if rest is not None else Rest()
    return differences(plan(snapshot, now, rest.copy()), plan(supposed, now, rest.copy()))


def differences(before: FleetPlan, after: FleetPlan) -> tuple[Difference, ...]:
    """Of the models that would fare otherwise, by name."""
    then = {report.model.uid: report for report in after.reports}
    found = [_difference(now, then[now.model.uid]) for now in before.reports if now.model.uid in then]
    told = [each for each in found if each.stops or each.starts or each.pending != each.pending_then]
    return tuple(sorted(told, key=lambda each: each.model))


def _difference(now: ModelReport, then: ModelReport) -> Difference:
    has, would_have = _counted(now.places), _counted(then.places)
    pending = _pending(then)
    return Difference(
        model=now.model.key,
        stops=_places(has - would_have),
        starts=_places(would_have - has),
        pending=_pending(now),
        pending_then=pending,
        why=next((each.message for each in then.conditions if each.type == "Placed"), "") if pending else "",
    )


def _counted(places: tuple[Place, ...]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for each in places:
        counts[each.node, each.variant] += each.replicas
    return counts


def _places(counts: Mapping[tuple[str, str], int]) -> tuple[Place, ...]:
    return tuple(Place(node, variant, count) for (node, variant), count in sorted(counts.items()))


def _pending(report: ModelReport) -> int:
    wanted = report.model.spec.replicas if report.model.spec is not None else 0
    return max(0, wanted - sum(each.replicas for each in report.places))


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
