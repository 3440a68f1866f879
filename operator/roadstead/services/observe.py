"""Gathers one frozen picture of the fleet.

Nothing here waits for the network: readers tell what they know, and how well they know it.
"""

from __future__ import annotations

from dataclasses import dataclass

from roadstead.domain.measured import Shown
from roadstead.domain.model import Model
from roadstead.domain.plan import Incarnation, Placement, World
from roadstead.domain.snapshot import FleetSnapshot, Known, latest
from roadstead.ports import Agents, Cells, Cluster, Gateways, Ledger
from roadstead.services.resolutions import ResolutionBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything outside, behind its Protocol."""

    cluster: Cluster
    agents: Agents
    cells: Cells
    gateways: Gateways
    ledger: Ledger


def observe(ports: Ports, resolutions: ResolutionBook) -> FleetSnapshot:
    """The fleet as it is known now. Call it only once ``ports.cluster.synced``."""
    models, releases = ports.cluster.models(), dict(ports.cluster.releases())
    resolutions.keep_only(models, releases)
    return FleetSnapshot(
        models=models,
        pools=ports.cluster.pools(),
        nodes=dict(ports.cluster.nodes()),
        device_slices=dict(ports.cluster.device_slices()),
        releases=releases,
        routes=dict(ports.cluster.routes()),
        agents=dict(ports.agents.facts()),
        cells=ports.cells.cells(),
        gateways=dict(ports.gateways.facts()),
        ledger=ports.ledger.facts(),
        resolutions=resolutions.answers(),
        workloads=ports.cluster.workloads,
        pods=ports.cluster.pods(),
        claims=ports.cluster.claims(),
        budgets=ports.cluster.budgets(),
        adoptions=dict(ports.cluster.adoptions()),
    )


def world_of(snapshot: FleetSnapshot) -> World:
    """What the ledger's open rows are compared with."""
    known = [cell.facts.value for cell in snapshot.cells if isinstance(cell.facts, Known)]
    placements = tuple(
        Placement(
            slot=slot.name,
            model=slot.model,
            content=slot.content,
            node=slot.node,
            replicas=slot.replicas,
            memory_bytes=slot.memory_bytes,
        )
        for facts in known
        for slot in facts.slots
        if slot.configured
    )
    return World(
        incarnations=tuple(_incarnation(model) for model in snapshot.models),
        placements=placements if len(known) == len(snapshot.cells) else None,
    )


def shown_by(snapshot: FleetSnapshot) -> Shown:
    """What the ledger's history of measurements is compared with; nothing is copied, however large the fleet."""
    answers = ((node, latest(part)) for node, part in snapshot.agents.items())
    return Shown(
        nodes=frozenset(snapshot.nodes) | snapshot.agents.keys(),
        agents={node: facts for node, facts in answers if facts is not None},
        quality={
            model.key: model.spec.measured
            for model in snapshot.models
            if model.spec is not None and model.spec.measured
        },
    )


def _incarnation(model: Model) -> Incarnation:
    return Incarnation(key=model.key, uid=model.uid, created=model.created)
