"""Telling the operator what this node is, has and does: one state, rebuilt when poked and every tick.

Figures that never stand still (free memory, of devices as well, free disk, measured memory) are told again only when
they have moved by a step, or when something that a plan depends on has changed anyway: an idle node wakes nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

import structlog

from roadstead_weights.store import WeightStore
from roadstead_worker.agent.budget import BudgetFile
from roadstead_worker.agent.devices import Devices
from roadstead_worker.agent.epoch import EpochFile
from roadstead_worker.agent.leases import LeaseBook
from roadstead_worker.agent.longpoll import PublishedState
from roadstead_worker.agent.measurements import MeasurementStore
from roadstead_worker.agent.weights import NodeWeights
from roadstead_worker.contract import (
    MEMORY_STEP_BYTES,
    DeviceState,
    EngineOffer,
    Hardware,
    LeaseState,
    Memory,
    NodeState,
)

log = structlog.get_logger(__name__)

DISK_STEP_BYTES: Final = 256 * 1024 * 1024


class SteadyFigures:
    """Remembers what was told of each figure and repeats it until it is off by more than a step."""

    def __init__(self) -> None:
        self._told: dict[Hashable, tuple[Hashable, int]] = {}

    def steady(self, name: Hashable, value: int, *, step: int, basis: Hashable = None) -> int:
        """``value``, or what was told last if that is within ``step`` and its ``basis`` is the same; 0 is exact."""
        basis_before, told = self._told.get(name, (None, None))
        if told is None or basis_before != basis or abs(value - told) > step or (value == 0) != (told == 0):
            self._told[name] = (basis, value)
            return value
        return told

    def keep_only(self, names: set[Hashable]) -> None:
        self._told = {name: told for name, told in self._told.items() if name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """Everything a node's state is put together from."""

    node: str
    hardware: Hardware
    engines: tuple[EngineOffer, ...]
    epoch: EpochFile
    budget: BudgetFile
    store: WeightStore
    weights: NodeWeights
    leases: LeaseBook
    measurements: MeasurementStore
    devices: Devices


class NodeTelling:
    """Publishes the node's state. Owns one task (``run``)."""

    def __init__(
        self,
        parts: NodeParts,
        published: PublishedState[NodeState],
        *,
        tick_seconds: float,
    ) -> None:
        self._parts = parts
        self._published = published
        self._tick_seconds = tick_seconds
        self._poked = asyncio.Event()
        self._figures = SteadyFigures()

    def poke(self) -> None:
        """Something changed: look now, not at the next tick."""
        self._poked.set()

    async def run(self) -> None:
        """Look around until cancelled. A look that fails is logged and tried again: the door must not fall silent."""
        while True:
            self._poked.clear()
            try:
                self.tell()
            except Exception:
                log.exception("the node's state could not be read")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_seconds):
                    await self._poked.wait()

    def tell(self) -> None:
        """Look around once and publish."""
        self._parts.leases.refresh()
        self._published.publish(self._state())

    def _state(self) -> NodeState:
        parts = self._parts
        budget = parts.budget.current()
        leases = tuple(self._steady_lease(lease) for lease in parts.leases.states())
        devices = parts.leases.devices()
        told: set[Hashable] = {(lease.slot, lease.index) for lease in leases}
        told |= {("device", device.id) for device in devices}
        self._figures.keep_only(told | {"free", "disk"})
        weights = parts.weights.states()
        return NodeState(
            digest="",
            epoch=parts.epoch.current,
            node=parts.node,
            cores=budget.cores,
            hardware=parts.hardware,
            memory=Memory(
                budget_bytes=budget.memory_bytes,
                free_bytes=self._figures.steady(
                    "free",
                    parts.leases.free_bytes(),
                    step=MEMORY_STEP_BYTES,
                    basis=(budget.memory_bytes, tuple((each.slot, each.index, each.bytes_granted) for each in leases)),
                ),
            ),
            disk_free_bytes=self._figures.steady(
                "disk",
                parts.store.free_bytes(),
                step=DISK_STEP_BYTES,
                basis=tuple((each.digest, each.phase) for each in weights),
            ),
            engines=parts.engines,
            weights=weights,
            leases=leases,
            measurements=parts.measurements.all(),
            devices=tuple(self._steady_device(device, leases) for device in devices),
            ambiguities=parts.devices.current.ambiguities,
        )

    def _steady_device(self, device: DeviceState, leases: tuple[LeaseState, ...]) -> DeviceState:
        granted = tuple((each.slot, each.index, each.device_bytes) for each in leases if device.id in each.devices)
        free = self._figures.steady(
            ("device", device.id),
            device.free_bytes,
            step=MEMORY_STEP_BYTES,
            basis=(device.memory_bytes, granted),
        )
        return device.model_copy(update={"free_bytes": free})

    def _steady_lease(self, lease: LeaseState) -> LeaseState:
        measured = self._figures.steady(
            (lease.slot, lease.index), lease.bytes_measured, step=MEMORY_STEP_BYTES, basis=lease.bytes_granted
        )
        return lease.model_copy(update={"bytes_measured": measured})
