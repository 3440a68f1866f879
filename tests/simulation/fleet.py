"""A simulated fleet: machines in cells, gateways, and everything a test may do to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.simulation.calls import Calls
from tests.simulation.cell import SimulatedCell
from tests.simulation.gateway import SimulatedGateway
from tests.simulation.line import Line, Silence
from tests.simulation.node import SimulatedNode
from tests.simulation.pace import SWEEP, Pace

GIB = 1024**3
_BUDGETS_GIB = (4, 8, 16, 32)
_CORES = (2, 4, 8, 16)
"""Machines differ, in turn."""


def node_name(number: int) -> str:
    return f"node-{number:04d}"


@dataclass(slots=True, kw_only=True)
class SimulatedFleet:
    """Everything behind the doors."""

    nodes: dict[str, SimulatedNode]
    cells: dict[str, SimulatedCell]
    gateways: dict[str, SimulatedGateway]
    calls: Calls = field(default_factory=Calls)

    @classmethod
    def of(cls, nodes: int, *, cells: int = 1, gateways: int = 2, pace: Pace = SWEEP) -> SimulatedFleet:
        """So many machines, dealt to the cells in turn."""
        machines = {
            node_name(number): SimulatedNode(
                name=node_name(number),
                budget=_BUDGETS_GIB[number % len(_BUDGETS_GIB)] * GIB,
                cores=_CORES[number % len(_CORES)],
                address=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
                pace=pace,
            )
            for number in range(nodes)
        }
        return cls.made_of(machines, cells=cells, gateways=gateways, pace=pace)

    @classmethod
    def made_of(
        cls, machines: dict[str, SimulatedNode], *, cells: int = 1, gateways: int = 2, pace: Pace = SWEEP
    ) -> SimulatedFleet:
        """These machines, dealt to the cells in turn."""
        names = list(machines)
        parts = {
            f"cell-{number}": SimulatedCell(
                name=f"cell-{number}", nodes={name: machines[name] for name in names[number::cells]}, pace=pace
            )
            for number in range(cells)
        }
        for cell in parts.values():
            for node in cell.nodes.values():
                node.freed = cell.start_waiting
        return cls(
            nodes=machines,
            cells=parts,
            gateways={f"gateway-{number}": SimulatedGateway(name=f"gateway-{number}") for number in range(gateways)},
        )

    def publish(self) -> None:
        """Tell how everything stands; call it once in the event loop that serves the doors."""
        for node in self.nodes.values():
            node.publish()
        for cell in self.cells.values():
            cell.publish()

    def close(self) -> None:
        """Answer everybody who waits at a door."""
        for node in self.nodes.values():
            node.published.close()
            node.line.speak()
        for cell in self.cells.values():
            cell.published.close()
            cell.line.speak()

    # --- what a test does to it ---

    def kill_node(self, name: str, *, how: Silence = Silence.HANGS) -> None:
        """The machine loses its power: agent, raylet and replicas are gone. Its Node object is somebody else's."""
        node = self.nodes[name]
        node.die()
        node.line.fall_silent(how)
        self.cell_of(name).lose(name)

    def revive_node(self, name: str) -> None:
        """The machine is back, with its store."""
        node = self.nodes[name]
        node.alive = True
        node.publish()
        node.line.speak()
        self.cell_of(name).regain(name)

    def silence(self, door: str, how: Silence | None) -> None:
        """Silence an agent, a cell or a gateway by its name, or let it speak again. Raises ``KeyError``."""
        line = self.line(door)
        if how is None:
            line.speak()
        else:
            line.fall_silent(how)

    def line(self, door: str) -> Line:
        """The line to a door; names of nodes, cells and gateways do not meet."""
        parts: tuple[dict[str, Any], ...] = (self.nodes, self.cells, self.gateways)
        for part in parts:
            if door in part:
                found: Line = part[door].line
                return found
        raise KeyError(door)

    def cell_of(self, node: str) -> SimulatedCell:
        """The cell that a node belongs to."""
        return next(cell for cell in self.cells.values() if node in cell.nodes)

    # --- what a test asks ---

    def slots(self) -> Iterator[tuple[str, str, int, int]]:
        """Model, slot, replicas asked for and replicas that hold a lease, of every application."""
        for cell in self.cells.values():
            for app in cell.applications.values():
                yield app.args.model, app.name, 0 if app.leaving else app.replicas, len(app.started)

    def normalised(self) -> dict[str, object]:
        """The world behind the doors, without what may differ from run to run: times, addresses, epochs."""
        return {
            "slots": {
                app.name: {
                    "cell": cell.name,
                    "node": app.args.node,
                    "model": app.args.model,
                    "variant": app.args.variant,
                    "content": app.args.content,
                    "release": app.user_config.release,
                    "replicas": app.replicas,
                    "ready": len(app.ready),
                    "attempt": app.args.attempt,
                    "leaving": app.leaving,
                }
                for cell in self.cells.values()
                for _, app in sorted(cell.applications.items())
            },
            "leases": sorted(
                (node.name, held.slot, held.index) for node in self.nodes.values() for held in node.leases.values()
            ),
            "weights": {
                node.name: sorted((weight.digest, weight.phase.value) for weight in node.weights.values())
                for node in self.nodes.values()
                if node.weights
            },
        }


def write_directory(path: Path, fleet: SimulatedFleet, base_url: str) -> None:
    """The file by which an operator finds the doors (``ROADSTEAD_DIRECTORY_FILE``), replaced as a whole."""
    listing = {
        "agents": [{"node": name, "url": f"{base_url}/agents/{name}"} for name in fleet.nodes],
        "cells": [
            {"name": name, "url": f"{base_url}/cells/{name}", "host": "127.0.0.1", "nodes": list(cell.nodes)}
            for name, cell in fleet.cells.items()
        ],
        "gateways": [{"name": name, "internal_url": f"{base_url}/gateways/{name}"} for name in fleet.gateways],
    }
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(listing, indent=1), encoding="utf-8")
    temporary.replace(path)
