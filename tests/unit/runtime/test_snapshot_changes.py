"""What is sent of a snapshot, and what becomes of it on the other side."""

from __future__ import annotations

from dataclasses import fields, replace

from roadstead.domain.model import VariantSpec
from roadstead.domain.snapshot import FleetSnapshot, Unknown
from roadstead.domain.workload import Devices
from roadstead.runtime.snapshot_changes import applied, changes
from roadstead.services.observe import observe
from tests.fixtures.memory_fleet import MIB, MemoryFleet, MemoryNode, artifact
from tests.fixtures.memory_pods import MemoryPods, image, pool

FILE = "file:///models/small.gguf"
VARIANT = VariantSpec(name="q8", source=FILE)


def fleet() -> MemoryFleet:
    small = artifact("small", mebibytes=100)
    made = MemoryFleet(nodes={f"n{i}": MemoryNode(budget=900 * MIB, files={FILE: small}) for i in range(3)})
    made.pools = [pool(image("a"), devices=Devices.SHARED)]
    made.pods = MemoryPods()
    return made


def sorted_parts(snapshot: FleetSnapshot) -> dict[str, object]:
    """Without the order of what has none."""
    parts = {field.name: getattr(snapshot, field.name) for field in fields(snapshot)}
    return {name: sorted(part, key=repr) if isinstance(part, tuple) else part for name, part in parts.items()}


async def test_whatever_happens_the_other_side_has_the_same_snapshot() -> None:
    world = fleet()
    here: FleetSnapshot | None = None
    there: FleetSnapshot | None = None
    for second in range(60):
        if second == 5:
            world.apply("one", VARIANT, replicas=2)
            world.apply("two", VARIANT)
        if second == 30:
            world.delete(next(iter(world.models)))
            world.nodes["n2"].agent_answers = False
        if second == 40:
            world.ledger_answers = False
            del world.nodes["n2"]
        await world.turn()
        world.step()
        now = observe(world.ports, world.resolutions)
        there = applied(there, changes(here, now))
        here = now
        assert sorted_parts(there) == sorted_parts(here), f"second {second}"


async def test_only_what_changed_is_sent_and_the_rest_stays_the_very_object() -> None:
    world = fleet()
    world.apply("one", VARIANT)
    await world.settle()
    before = observe(world.ports, world.resolutions)
    held = applied(None, changes(None, before))
    after = replace(observe(world.ports, world.resolutions), agents={**before.agents, "n0": Unknown("gone")})

    delta = changes(before, after)

    assert {name: set(put) for name, put in delta.put.items() if put} == {"agents": {"n0"}}
    assert not delta.whole
    assert not any(delta.gone.values())
    new = applied(held, delta)
    assert new.models is held.models
    assert new.agents["n1"] is held.agents["n1"]
