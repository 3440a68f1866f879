"""Wherever in a model's life a write is not made, not answered or its maker's last: the same world comes about.

Every mutating call of a life counts, the ledger's rows among them. At each of them the operator is killed just before,
or just after, or goes on without the answer; meanwhile no model ever has more replicas than two releases ask for, and
never fewer that answer than before the change.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from roadstead.domain.model import ModelKey, VariantSpec
from roadstead.domain.workload import Devices
from tests.fixtures.figures import Say
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact
from tests.fixtures.memory_pods import MemoryPods, image, pool
from tests.fixtures.memory_writes import Fault

FILES = {
    f"file:///models/{name}.gguf": artifact(name, mebibytes=size, bits=bits)
    for name, size, bits in (("large", 500, 16), ("middle", 200, 6.6), ("small", 80, 4.5))
}
VARIANTS = tuple(VariantSpec(name=name, source=f"file:///models/{name}.gguf") for name in ("large", "middle", "small"))
IMAGES = (image("a"), image("b"))
ASSISTANT = ModelKey("team", "assistant")


@dataclass
class Bounds:
    """What holds of one model at every moment."""

    fleet: MemoryFleet
    least: int = 0
    """Replicas that answer through a gateway, at least."""
    most: int = 0
    """Replicas that are configured, at most."""

    def check(self) -> None:
        answering, configured = self.fleet.answering(ASSISTANT), self.fleet.configured_replicas(ASSISTANT)
        assert answering >= self.least, f"{answering} answer, {self.least} were promised"
        assert configured <= self.most, f"{configured} replicas, {self.most} are the most"


Life = Callable[[MemoryFleet], Awaitable[None]]


def new_fleet() -> MemoryFleet:
    budgets = (2000, 900, 400)
    return MemoryFleet(
        nodes={f"node-{index}": MemoryNode(budget=size * MIB, files=dict(FILES)) for index, size in enumerate(budgets)}
    )


async def life_of_a_model(fleet: MemoryFleet) -> None:
    """Create → scale → change → lose a node → take it back → delete, each to the end."""
    bounds = Bounds(fleet)
    fleet.watch = bounds.check
    bounds.most = 1
    fleet.apply("assistant", *VARIANTS)
    other = fleet.apply("other", VARIANTS[2])
    await fleet.settle()
    bounds.least, bounds.most = 1, 3
    fleet.apply("assistant", *VARIANTS, replicas=3)
    await fleet.settle()
    bounds.least, bounds.most = 3, 6
    fleet.apply("assistant", *VARIANTS[1:], replicas=3, context_tokens=1024, keep_releases=1)
    await fleet.settle()
    there = fleet.running(ASSISTANT).get("node-1", ("", 0))[1]
    bounds.least = 3 - there
    fleet.nodes["node-1"].ready = fleet.nodes["node-1"].agent_answers = False
    await fleet.settle()
    fleet.nodes["node-1"].ready = fleet.nodes["node-1"].agent_answers = True
    await fleet.settle()
    bounds.least = 0
    fleet.delete(ASSISTANT)
    await fleet.settle()
    assert set(fleet.models) == {other}
    check_that_nothing_is_left(fleet, of=ASSISTANT)


def check_that_nothing_is_left(fleet: MemoryFleet, *, of: ModelKey) -> None:
    assert not [app for app in fleet.applications.values() if app.slot.model == of], "an orphan application"
    assert not [name for name in fleet.revisions if name[0] == of], "an orphan ControllerRevision"
    assert of not in fleet.routes, "an orphan ModelRoute"
    assert of not in fleet.rows.incarnations.values(), "an open row of a LocalModel that is gone"
    assert not [each for each in fleet.rows.placements.values() if each.model == of], "an open row of a slot"
    wanted = {content.artifact.digest for kept in fleet.revisions.values() for content in kept[1].contents}
    assert {digest for node in fleet.nodes.values() for digest in node.weights} <= wanted, "orphan weights"


def new_fleet_of_pods(devices: Devices) -> MemoryFleet:
    fleet = new_fleet()
    for node in fleet.nodes.values():
        node.budget = 1500 * MIB
    fleet.pools = [pool(IMAGES[0], devices=devices)]
    fleet.pods = MemoryPods()
    return fleet


async def life_of_workers(fleet: MemoryFleet) -> None:
    """Install → serve → adopt another image → drain a node → take it back → delete, each to the end."""
    assert fleet.pods is not None
    bounds = Bounds(fleet, most=2)
    fleet.watch = bounds.check
    fleet.apply("assistant", VARIANTS[2], replicas=2)
    await fleet.settle(limit=200)
    bounds.least, bounds.most = 2, 4
    (offered,) = fleet.pools
    fleet.pools = [replace(offered, engines=IMAGES[1:], adopt=IMAGES[1].identity)]
    await fleet.settle(limit=300)
    fleet.nodes["node-1"].unschedulable = True
    fleet.pods.drain("node-1")
    await fleet.settle(limit=200)
    fleet.pods.evictions.clear()
    fleet.nodes["node-1"].unschedulable = False
    await fleet.settle(limit=200)
    bounds.least = 0
    fleet.delete(ASSISTANT)
    await fleet.settle(limit=200)
    assert len(fleet.pods.pods) == 6
    assert fleet.pods.budgets == set()
    check_that_nothing_is_left(fleet, of=ASSISTANT)


async def sweep(new: Callable[[], MemoryFleet], life: Life, fault: Fault, *, every: int = 1) -> None:
    quiet = new()
    await life(quiet)
    expected = quiet.normalised()
    for place in range(0, len(quiet.writes), every):
        fleet = new()
        fleet.writes.fault = (place, fault)
        try:
            await life(fleet)
        except AssertionError as error:
            raise AssertionError(f"{fault} {place}: {quiet.writes[place]}") from error
        assert fleet.writes.met
        assert fleet.normalised() == expected, f"{fault} {place}: {quiet.writes[place]}"


@pytest.mark.parametrize("fault", Fault)
async def test_a_models_life_ends_in_the_same_world_whatever_happens_to_one_write(fault: Fault) -> None:
    await sweep(new_fleet, life_of_a_model, fault)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("devices", Devices)
async def test_the_life_of_workers_ends_in_the_same_world_whatever_happens_to_one_write(
    devices: Devices, fault: Fault
) -> None:
    await sweep(lambda: new_fleet_of_pods(devices), life_of_workers, fault)


async def test_the_calls_of_a_life_are_printed_and_may_only_get_fewer(say: Say) -> None:
    fleet = new_fleet()
    await life_of_a_model(fleet)
    kinds = sorted({write.split()[0] for write in fleet.writes})
    by_kind = ", ".join(f"{sum(write.split()[0] == kind for write in fleet.writes)} {kind}" for kind in kinds)
    say(f"{len(fleet.writes)} mutating calls in a model's life: {by_kind}")
    assert kinds == [
        "clear", "configure", "fetch", "finalizer", "forget", "ledger", "number", "release", "route", "status",
        "withdraw",
    ]  # fmt: skip
    assert len(fleet.writes) <= 65
