"""From the domain's values to answers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypedDict, TypeVar

from roadstead.api import answers
from roadstead.api.actions import told_action
from roadstead.domain.inventory import Inventory
from roadstead.domain.model import ConditionStatus
from roadstead.domain.plan import ConditionReport, ModelReport, PoolReport, SlotReport
from roadstead.domain.snapshot import Cell, FleetSnapshot, Known, Node, Part, Pool, Stale, Taint, Unknown, latest
from roadstead.domain.workload import NodePod
from roadstead.services.outlook import Planned

T = TypeVar("T")

_TELLING = (
    ("Accepted", ConditionStatus.FALSE),
    ("Stalled", ConditionStatus.TRUE),
    ("Degraded", ConditionStatus.TRUE),
    ("Placed", ConditionStatus.FALSE),
    ("Resolved", ConditionStatus.FALSE),
    ("Progressing", ConditionStatus.TRUE),
)
"""In this order, the condition whose message a person should see; else that of Ready."""


class Origin(TypedDict):
    leading: bool
    planned_at: datetime
    age_seconds: float


def origin(planned: Planned, *, now: datetime, leading: bool) -> Origin:
    """Whose view it is, and how old."""
    age = max(0.0, (now - planned.at).total_seconds())
    return Origin(leading=leading, planned_at=planned.at, age_seconds=round(age, 3))


def model_list(planned: Planned, origin: Origin) -> answers.ModelList:
    return answers.ModelList(items=tuple(_summary(report) for report in _in_order(planned.plan.reports)), **origin)


def model_answer(planned: Planned, origin: Origin, *, namespace: str, name: str) -> answers.ModelAnswer | None:
    """The model of that name, if the plan knows it."""
    found = next((report for report in planned.plan.reports if report.model.key == (namespace, name)), None)
    return None if found is None else answers.ModelAnswer(model=_detail(found), **origin)


def node_list(planned: Planned, origin: Origin) -> answers.NodeList:
    pools = planned.pools()
    cells = planned.cells()
    cell_of = {node: cell for cell in cells for node in cell.nodes}
    slots = _slots_by_node(cells)
    pods = _pods_by_node(planned.snapshot.pods)
    inventories = planned.inventories()
    nodes = [
        _node(
            node,
            planned.snapshot,
            inventory=inventories[name],
            pool=pools.get(name, ""),
            cell=cell_of.get(name),
            slots=slots.get(name, ()),
            pods=pods.get(name, ()),
        )
        for name, node in sorted(planned.snapshot.nodes.items())
    ]
    return answers.NodeList(items=tuple(nodes), **origin)


def pool_list(planned: Planned, origin: Origin) -> answers.PoolList:
    reports = {report.pool.name: report for report in planned.plan.pools}
    members = planned.pools()
    pools = [
        _pool(pool, reports.get(pool.name), nodes=[node for node, name in members.items() if name == pool.name])
        for pool in sorted(planned.snapshot.pools, key=lambda pool: pool.name)
    ]
    return answers.PoolList(items=tuple(pools), **origin)


def plan_answer(planned: Planned, origin: Origin) -> answers.PlanAnswer:
    snapshot = planned.snapshot
    return answers.PlanAnswer(
        actions=tuple(told_action(action) for action in planned.plan.actions),
        models=tuple(_detail(report) for report in _in_order(planned.plan.reports)),
        wake_after_seconds=planned.plan.wake_after_seconds,
        cells={cell.name: _source(cell.facts) for cell in planned.cells()},
        gateways={name: _source(part) for name, part in sorted(snapshot.gateways.items())},
        ledger=_source(snapshot.ledger),
        **origin,
    )


def _in_order(reports: Iterable[ModelReport]) -> list[ModelReport]:
    return sorted(reports, key=lambda report: report.model.key)


def _summary(report: ModelReport) -> answers.ModelSummary:
    return answers.ModelSummary.model_validate(_detail(report).model_dump())


def _detail(report: ModelReport) -> answers.ModelDetail:
    model, spec, release = report.model, report.model.spec, report.release
    answering = [slot for slot in report.slots if slot.ready]
    return answers.ModelDetail(
        namespace=model.key.namespace,
        name=model.key.name,
        served_name=spec.served_name if spec is not None else None,
        aliases=spec.aliases if spec is not None else (),
        generation=model.generation,
        deleting=model.deleting,
        status=report.status,
        wanted=spec.replicas if spec is not None else report.replicas,
        ready=report.ready,
        release=release.number if release is not None else None,
        current=(
            answers.Release(number=release.number, digest=release.digest, previous=report.previous)
            if release is not None
            else None
        ),
        variants=tuple(sorted({slot.variant for slot in answering})),
        nodes=tuple(sorted({slot.node for slot in answering})),
        message=_telling_message(report.conditions),
        ladder=tuple(
            answers.Variant(
                name=variant.name,
                quality=variant.quality,
                quality_origin=variant.quality_origin,
                bytes=variant.bytes,
                chosen=variant.chosen,
                verdict=variant.verdict.reason,
                message=variant.verdict.message,
            )
            for variant in report.variants
        ),
        slots=tuple(_slot(slot, str(model.key)) for slot in report.slots),
        conditions=tuple(_condition(condition) for condition in report.conditions),
    )


def _slot(slot: SlotReport, model: str) -> answers.Slot:
    return answers.Slot(
        name=slot.name,
        model=model,
        node=slot.node,
        pool=slot.pool,
        variant=slot.variant,
        engine=slot.engine,
        releases=slot.releases,
        replicas=slot.replicas,
        ready=slot.ready,
        weight=slot.weight,
        memory_estimated_bytes=slot.memory_estimated,
        memory_measured_bytes=slot.memory_measured,
        state=slot.state,
        message=slot.message,
    )


def _condition(row: ConditionReport) -> answers.Condition:
    return answers.Condition(type=row.type, status=row.status.value, reason=row.reason, message=row.message)


def _telling_message(conditions: Sequence[ConditionReport]) -> str:
    said = {(row.type, row.status): row.message for row in conditions}
    ready = next((row.message for row in conditions if row.type == "Ready"), "")
    return next((said[telling] for telling in _TELLING if said.get(telling)), ready)


def _node(
    node: Node,
    snapshot: FleetSnapshot,
    *,
    inventory: Inventory,
    pool: str,
    cell: Cell | None,
    slots: Sequence[answers.NodeSlot],
    pods: Sequence[answers.Pod],
) -> answers.Node:
    agent = snapshot.agents.get(node.name, Unknown("no agent is known on this node"))
    facts = latest(agent)
    return answers.Node(
        name=node.name,
        pool=pool,
        cell=cell.name if cell is not None else "",
        ready=node.ready,
        unschedulable=node.unschedulable,
        taints=tuple(_taint(taint) for taint in node.taints),
        agent=_source(agent),
        cell_source=_source(cell.facts if cell is not None else Unknown("belongs to no cell")),
        cores=facts.cores if facts is not None else None,
        memory_budget_bytes=facts.budget_bytes if facts is not None else None,
        memory_free_bytes=facts.free_bytes if facts is not None else None,
        disk_free_bytes=facts.disk_free_bytes if facts is not None else None,
        devices=tuple(
            answers.Device(
                product=device.product,
                vendor=device.vendor.value,
                memory_bytes=device.memory_bytes,
                free_bytes=device.free_bytes,
                mig_profile=device.mig_profile,
                clients=device.clients,
            )
            for device in inventory.devices
        ),
        ambiguities=inventory.ambiguities,
        engines=tuple(f"{build.engine} {build.image}" for build in facts.engines) if facts is not None else (),
        weights=tuple(
            answers.Weights(
                digest=weight.digest,
                phase=weight.phase.value,
                bytes_total=weight.bytes_total,
                bytes_done=weight.bytes_done,
                code=weight.code,
                message=weight.message,
            )
            for weight in (facts.weights if facts is not None else ())
        ),
        slots=tuple(slots),
        pods=tuple(pods),
    )


def _slots_by_node(cells: Iterable[Cell]) -> dict[str, list[answers.NodeSlot]]:
    found: dict[str, list[answers.NodeSlot]] = {}
    told = [facts for cell in cells if (facts := latest(cell.facts)) is not None]
    for slot in sorted((slot for facts in told for slot in facts.slots), key=lambda slot: slot.name):
        row = answers.NodeSlot(
            name=slot.name,
            model=str(slot.model),
            variant=slot.variant,
            release=slot.release,
            replicas=slot.replicas,
            ready=slot.ready,
            status=slot.status,
        )
        found.setdefault(slot.node, []).append(row)
    return found


def _pods_by_node(pods: Iterable[NodePod]) -> dict[str, list[answers.Pod]]:
    found: dict[str, list[answers.Pod]] = {}
    for pod in sorted(pods, key=lambda pod: pod.name):
        row = answers.Pod(name=pod.name, role=pod.role.value, image=pod.image, ready=pod.ready, deleting=pod.deleting)
        found.setdefault(pod.node, []).append(row)
    return found


def _pool(pool: Pool, report: PoolReport | None, *, nodes: Sequence[str]) -> answers.Pool:
    if report is not None and report.engines:
        engines = tuple(
            answers.PoolEngine(engine=row.engine, adopted=row.adopted, offered=row.offered) for row in report.engines
        )
    else:
        engines = tuple(
            answers.PoolEngine(engine=build.engine, adopted=build.image, offered=build.image) for build in pool.engines
        )
    return answers.Pool(
        name=pool.name,
        node_selector=dict(pool.node_selector),
        nodes=tuple(sorted(nodes)),
        workers=report.workers if report is not None else 0,
        workers_ready=report.ready if report is not None else 0,
        engines=engines,
        conditions=tuple(_condition(row) for row in report.conditions) if report is not None else (),
    )


def _source(part: Part[T]) -> answers.Source:
    match part:
        case Known():
            return answers.Source(state="Known")
        case Stale(since=since):
            return answers.Source(state="Stale", since=since)
        case Unknown(why=why):
            return answers.Source(state="Unknown", why=why)


def _taint(taint: Taint) -> str:
    return f"{taint.key}={taint.value}:{taint.effect}" if taint.value else f"{taint.key}:{taint.effect}"
