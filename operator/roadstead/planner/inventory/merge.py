"""One inventory from everything that tells of a node: its agent, else DRA drivers, else labels.

Where an agent runs it is the truth: it asked the vendor's library a moment ago. For what it cannot see, how the cluster
shares a card, labels are asked all the same. Without an agent a vendor's DRA driver stands above its labels, because it
tells of each device by itself. Two that speak of the same product and differ in its memory contradict each other, and
neither is believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from roadstead.domain.inventory import Device, DeviceSlice, Inventory, Vendor
from roadstead.domain.quantity import in_words
from roadstead.domain.snapshot import AgentFacts, Node
from roadstead.planner.inventory.labels import labels_told
from roadstead.planner.inventory.processor import isa_told
from roadstead.planner.inventory.slices import slices_told
from roadstead.planner.inventory.told import Told

_Kind = tuple[Vendor, str, str]
_ALIKE: Final = 0.02
"""Labels and drivers round differently. What a card has differs by more than that, or not at all."""


def inventory_of(node: Node, *, slices: Sequence[DeviceSlice] = (), agent: AgentFacts | None = None) -> Inventory:
    """What the node has. ``slices`` are those of this node; ``agent`` is what its agent told last, None without one."""
    labels = dict(node.labels)
    by_labels = labels_told(labels, dict(node.allocatable))
    described = _described(by_labels, slices_told(slices))
    if agent is None:
        return Inventory(isa=isa_told(labels), devices=described.devices, ambiguities=described.ambiguities)
    shared = {_kind(device): device for told in by_labels.values() for device in told.devices if device.clients > 1}
    return Inventory(
        cores=agent.cores,
        memory_bytes=agent.budget_bytes,
        isa=frozenset(agent.isa) or isa_told(labels),
        memory_bandwidth=agent.memory_bandwidth,
        disk_bytes=agent.disk_free_bytes,
        devices=tuple(_shared(device, like=shared.get(_kind(device))) for device in agent.devices),
        ambiguities=(*agent.ambiguities, *_unseen(agent, described)),
    )


def _described(by_labels: Mapping[Vendor, Told], by_drivers: Mapping[Vendor, Told]) -> Told:
    """By everything but an agent."""
    told = Told()
    for vendor in Vendor:
        labelled = by_labels.get(vendor, Told())
        told += _compared(by_drivers[vendor], labelled) if vendor in by_drivers else labelled
    return told


def _compared(published: Told, labelled: Told) -> Told:
    """What a driver publishes, without that of which labels say otherwise."""
    by_labels = {_kind(device): device.memory_bytes for device in labelled.devices}
    doubtful: dict[_Kind, str] = {}
    for device in published.devices:
        memory = device.memory_bytes
        said = by_labels.get(_kind(device), memory)
        if abs(said - memory) > _ALIKE * max(said, memory):
            doubtful[_kind(device)] = (
                f"{device.product} has {in_words(memory)} in its ResourceSlice and {in_words(said)} in labels"
            )
    certain = tuple(device for device in published.devices if _kind(device) not in doubtful)
    return Told(certain, (*published.ambiguities, *doubtful.values()))


def _kind(device: Device) -> _Kind:
    return (device.vendor, device.product, device.mig_profile)


def _shared(device: Device, *, like: Device | None) -> Device:
    """``like`` is the same kind of device in the words of labels, if several have it at once."""
    return device if like is None else replace(device, sharing=like.sharing, clients=like.clients)


def _unseen(agent: AgentFacts, described: Told) -> tuple[str, ...]:
    """Of accelerators that others tell of, where an agent sees none at all: engines beside it may not either."""
    if agent.devices or agent.ambiguities:
        return ()
    if not described.devices:
        return described.ambiguities
    products = ", ".join(sorted({device.product for device in described.devices}))
    number = len(described.devices)
    return (f"labels or drivers tell of {number} {products}, and the agent sees none: it needs the driver's library",)
