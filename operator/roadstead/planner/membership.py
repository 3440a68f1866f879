"""Which nodes belong to which cell.

Where workers are Pods, a directory knows a cell by its head alone. A pool names the cell that its workers join, so its
nodes belong there before any raylet has come up; a slot's node belongs to the cell that told of the slot, whatever the
pool says by now. A cell that a pool names is there even while nobody lists its head: it is Unknown, not absent, and so
nothing is concluded from its silence.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from roadstead.domain.snapshot import Cell, FleetSnapshot, Unknown, latest
from roadstead.planner.nodes import pool_of


def with_members(snapshot: FleetSnapshot) -> FleetSnapshot:
    """The snapshot with every cell that is named anywhere, each with all of its nodes."""
    joined: defaultdict[str, set[str]] = defaultdict(set)
    for name, node in snapshot.nodes.items():
        pool = pool_of(node, snapshot.pools) if snapshot.workloads is not None else None
        if pool is not None and pool.workers is not None:
            joined[pool.workers.cell].add(name)
    listed = {cell.name: cell for cell in snapshot.cells}
    silent = {
        name: Cell(name=name, nodes=frozenset(), facts=Unknown("no head is listed for it"))
        for name in joined
        if name not in listed
    }
    return replace(
        snapshot,
        cells=tuple(
            replace(cell, nodes=cell.nodes | joined[name] | _nodes_of_slots(cell))
            for name, cell in sorted((listed | silent).items())
        ),
    )


def _nodes_of_slots(cell: Cell) -> set[str]:
    told = latest(cell.facts)
    return {slot.node for slot in told.slots} if told is not None else set()
